#include "ebpf/capture.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace original_dst {

namespace {

struct Attachment {
  const char* name;
  uint32_t type;
  uint32_t place;
  CaptureProgram program;
  bool tcp;
  bool udp;
};

// In this order: nothing is led here before it can be told where it was going.
constexpr Attachment kAttachments[] = {
    {"sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS, kCaptureProgram_witness, true, false},
    {"egress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, kCaptureProgram_tag, false, true},
    {"recvmsg4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_RECVMSG, kCaptureProgram_from4,
     false, true},
    {"recvmsg6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_RECVMSG, kCaptureProgram_from6,
     false, true},
    {"getpeername4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME,
     kCaptureProgram_from4, true, true},
    {"getpeername6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME,
     kCaptureProgram_from6, true, true},
    {"connect4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, kCaptureProgram_to4,
     true, true},
    {"connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT, kCaptureProgram_to6,
     true, true},
    {"sendmsg4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG, kCaptureProgram_to4,
     false, true},
    {"sendmsg6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG, kCaptureProgram_to6,
     false, true},
};
constexpr size_t kAttachmentCount = sizeof(kAttachments) / sizeof(kAttachments[0]);

// Those that say what belongs to an alias, and have to be the same after a restart. The others say
// what is captured, and are made anew.
constexpr CaptureMap kLasting[] = {kCaptureMap_forward, kCaptureMap_aliases, kCaptureMap_witnesses,
                                   kCaptureMap_counters, kCaptureMap_ring};

bool lasts(size_t map) {
  return std::find(std::begin(kLasting), std::end(kLasting), map) != std::end(kLasting);
}

int fail(BpfFailure* failure, const char* command, const char* what, int status) {
  failure->step = std::string(command) + " " + what;
  return status;
}

// Do programs at this place get in each other's way? The others only look.
bool rewrites(const Attachment& one) { return one.type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR; }

bool wanted(const Attachment& one, const CaptureConfig& config) {
  return (one.tcp && config.tcp != 0) || (one.udp && config.udp != 0);
}

}  // namespace

std::string Capture::pin_of(const char* kind, const char* name) const {
  return pin_ + "/" + kind + "-" + name;
}

int Capture::make_maps(const CaptureOptions& options, BpfFailure* failure) {
  for (size_t i = 0; i < kMaps; i++) {
    BpfMapImage image = kCaptureMaps[i];
    if (i == kCaptureMap_forward || i == kCaptureMap_aliases) {
      image.max_entries = options.destinations;
    }
    if (!pin_.empty() && lasts(i)) {
      const std::string path = pin_of("map", image.name);
      int status = bpf_pinned(path, &maps_[i]);
      if (status == 0) {
        uint32_t value_size = 0;
        uint32_t entries = 0;
        status = bpf_map_size(maps_[i].get(), &value_size, &entries);
        if (status == 0 && (value_size != image.value_size || entries != image.max_entries)) {
          status = -EEXIST;
        }
        if (status != 0) return fail(failure, "BPF_OBJ_GET", image.name, status);
        continue;
      }
      if (status != -ENOENT) return fail(failure, "BPF_OBJ_GET", image.name, status);
      status = bpf_map_create(image, token_.get(), &maps_[i]);
      if (status != 0) return fail(failure, "BPF_MAP_CREATE", image.name, status);
      status = bpf_pin(maps_[i].get(), path);
      if (status != 0) return fail(failure, "BPF_OBJ_PIN", image.name, status);
      continue;
    }
    const int status = bpf_map_create(image, token_.get(), &maps_[i]);
    if (status != 0) return fail(failure, "BPF_MAP_CREATE", image.name, status);
  }
  return 0;
}

int Capture::fill_maps(const CaptureOptions& options, BpfFailure* failure) {
  CaptureConfig config = options.config;
  config.ring_mask = options.destinations - 1;
  uint64_t netns = 0;
  int status = netns_cookie(&netns);
  if (status != 0) return fail(failure, "getsockopt", "SO_NETNS_COOKIE", status);
  config.netns = netns;
  status = ring_.map(maps_[kCaptureMap_ring].get(), sizeof(CaptureRing));
  if (status == 0) {
    status =
        counters_.map(maps_[kCaptureMap_counters].get(), kCaptureCpus * sizeof(CaptureCounters));
  }
  if (status == 0) {
    status = table_.open(maps_[kCaptureMap_aliases].get(), options.destinations,
                         maps_[kCaptureMap_witnesses].get(), config);
  }
  if (status != 0) return fail(failure, "mmap", "maps", status);
  auto* const ring = static_cast<CaptureRing*>(ring_.memory());
  if (ring->version == 0) {
    ring->next = ring->first = options.first;
    ring->version = kBpfVersion;
  }
  // Another version's aliases may lie differently in the same room.
  if (ring->version != kBpfVersion) return fail(failure, "BPF_OBJ_GET", "version", -EEXIST);

  const uint32_t zero = 0;
  status = bpf_map_update(maps_[kCaptureMap_config].get(), &zero, &config);
  for (uint32_t port = 0; options.ports != nullptr && port < 65536 && status == 0; port++) {
    if (options.ports[port] == 0) continue;
    status = bpf_map_update(maps_[kCaptureMap_ports].get(), &port, &options.ports[port]);
  }
  for (size_t i = 0; i < options.prefix4_count && status == 0; i++) {
    const CapturePrefix4& prefix = options.prefixes4[i];
    status = bpf_map_update(maps_[kCaptureMap_trie4].get(), &prefix, &prefix.flows);
  }
  for (size_t i = 0; i < options.prefix6_count && status == 0; i++) {
    const CapturePrefix6& prefix = options.prefixes6[i];
    status = bpf_map_update(maps_[kCaptureMap_trie6].get(), &prefix, &prefix.flows);
  }
  return status == 0 ? 0 : fail(failure, "BPF_MAP_UPDATE_ELEM", "flows", status);
}

// The links of a process before this one, which has ended or is about to.
int Capture::adopt_links(const CaptureOptions& options, BpfFailure* failure) {
  struct stat cgroup = {};
  // Not fstat(3), which glibc before 2.33 has under another name. The kernel's struct is the same.
  if (syscall(SYS_fstat, options.cgroup, &cgroup) != 0)
    return fail(failure, "fstat", "cgroup", -errno);
  for (size_t i = 0; i < kAttachmentCount && !pin_.empty(); i++) {
    const std::string path = pin_of("link", kAttachments[i].name);
    int status = bpf_pinned(path, &links_[i]);
    if (status == -ENOENT) continue;
    uint64_t id = 0;
    if (status == 0) status = bpf_link_target(links_[i].get(), &id, &adopted_[i]);
    if (status == -ENOLINK || (status == 0 && !wanted(kAttachments[i], options.config))) {
      // The cgroup is gone, and another may be there under its name; or it is not asked for any
      // more.
      links_[i].reset();
      adopted_[i] = 0;
      unlink(path.c_str());
      continue;
    }
    if (status == 0 && id != cgroup.st_ino) status = -EEXIST;
    if (status != 0) return fail(failure, "BPF_OBJ_GET", kAttachments[i].name, status);
  }
  return 0;
}

int Capture::check_alone(const CaptureOptions& options, BpfFailure* failure) const {
  for (size_t i = 0; i < kAttachmentCount; i++) {
    const Attachment& one = kAttachments[i];
    if (!rewrites(one) || !wanted(one, options.config)) continue;
    uint32_t programs[64] = {};
    const int found = bpf_prog_query(options.cgroup, one.place, true, programs, 64);
    // A token gives no right to look: whoever has delegated it answers for the cgroup.
    if (found == -EPERM && token_.valid()) return 0;
    if (found < 0) return fail(failure, "BPF_PROG_QUERY", one.name, found);
    for (int k = 0; k < std::min(found, 64); k++) {
      if (programs[k] == adopted_[i]) continue;
      failure->log = std::to_string(programs[k]);
      return fail(failure, "BPF_PROG_QUERY", one.name, -EBUSY);
    }
  }
  return 0;
}

int Capture::attach(const CaptureOptions& options, BpfFailure* failure) {
  if (options.config.udp != 0) {
    const int status =
        bpf_prog_load(kCapturePrograms[kCaptureProgram_filter], BPF_PROG_TYPE_SOCKET_FILTER, 0,
                      token_.get(), maps_, &filter_, &failure->log);
    if (status != 0) return fail(failure, "BPF_PROG_LOAD", "filter", status);
  }
  for (size_t i = 0; i < kAttachmentCount; i++) {
    const Attachment& one = kAttachments[i];
    if (!wanted(one, options.config)) continue;
    OwnedFd program;
    const uint32_t place = rewrites(one) ? one.place : 0;
    int status = bpf_prog_load(kCapturePrograms[one.program], one.type, place, token_.get(), maps_,
                               &program, &failure->log);
    if (status != 0) return fail(failure, "BPF_PROG_LOAD", one.name, status);
    if (links_[i].valid()) {
      status = bpf_link_update(links_[i].get(), program.get());
      if (status != 0) return fail(failure, "BPF_LINK_UPDATE", one.name, status);
      continue;
    }
    status = bpf_link_create(program.get(), options.cgroup, one.place, &links_[i]);
    if (status != 0) return fail(failure, "BPF_LINK_CREATE", one.name, status);
    if (pin_.empty()) continue;
    status = bpf_pin(links_[i].get(), pin_of("link", one.name));
    if (status != 0) return fail(failure, "BPF_OBJ_PIN", one.name, status);
  }
  return 0;
}

int Capture::open(const CaptureOptions& options, BpfFailure* failure) {
  static_assert(kMostLinks == kAttachmentCount, "a link for each");
  pin_ = options.pin;
  if (!options.token.empty()) {
    const int answer = bpf_token_create(options.token, &token_);
    if (answer != 0) return fail(failure, "BPF_TOKEN_CREATE", "bpffs", answer);
  }
  int status = adopt_links(options, failure);
  if (status == 0) status = check_alone(options, failure);
  if (status == 0) status = make_maps(options, failure);
  if (status == 0) status = fill_maps(options, failure);
  if (status == 0) status = attach(options, failure);
  // Half a capture is nobody's; one that was taken over is still the other process'.
  const bool taken_over =
      std::any_of(adopted_, adopted_ + kMostLinks, [](uint32_t it) { return it != 0; });
  if (status != 0 && !taken_over && status != -EEXIST) unpin();
  return status;
}

void Capture::detach(bool and_unpin) {
  if (and_unpin) unpin();
  for (OwnedFd& link : links_) link.reset();
}

void Capture::unpin() {
  if (pin_.empty()) return;
  for (const Attachment& one : kAttachments) unlink(pin_of("link", one.name).c_str());
  for (const CaptureMap map : kLasting) unlink(pin_of("map", kCaptureMaps[map].name).c_str());
  rmdir(pin_.c_str());
}

CaptureCounts Capture::counts() const {
  CaptureCounts sum = {};
  const auto* const of_cpu = static_cast<const CaptureCounters*>(counters_.memory());
  for (size_t cpu = 0; cpu < kCaptureCpus; cpu++) {
    sum.captured += of_cpu[cpu].captured;
    sum.exempt += of_cpu[cpu].exempt;
    sum.refused += of_cpu[cpu].refused;
    sum.exhausted += of_cpu[cpu].exhausted;
    sum.lost += of_cpu[cpu].lost;
  }
  const auto* const ring = static_cast<const CaptureRing*>(ring_.memory());
  sum.aliases = ring->next - ring->first;
  return sum;
}

}  // namespace original_dst
