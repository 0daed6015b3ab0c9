#include "ebpf/port_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>

namespace original_dst {

int PortListener::open(const PortListenerOptions& options, BpfFailure* failure) {
  OwnedFd token;
  if (!options.token.empty()) {
    failure->step = "BPF_TOKEN_CREATE bpffs";
    const int answer = bpf_token_create(options.token, &token);
    if (answer != 0) return answer;
  }
  for (size_t i = 0; i < kMaps; i++) {
    failure->step = std::string("BPF_MAP_CREATE ") + kListenerMaps[i].name;
    const int status = bpf_map_create(kListenerMaps[i], token.get(), &maps_[i]);
    if (status != 0) return status;
  }
  failure->step = "mmap maps";
  int status = led_.map(maps_[kListenerMap_led].get(), sizeof(uint64_t));
  if (status != 0) return status;

  failure->step = "BPF_MAP_UPDATE_ELEM flows";
  const uint64_t wanted = 1;
  for (size_t i = 0; i < options.port_count && status == 0; i++) {
    const uint32_t port = options.ports[i];
    status = bpf_map_update(maps_[kListenerMap_listener_ports].get(), &port, &wanted);
  }
  for (size_t i = 0; i < options.prefix4_count && status == 0; i++) {
    status =
        bpf_map_update(maps_[kListenerMap_listener_trie4].get(), &options.prefixes4[i], &wanted);
  }
  for (size_t i = 0; i < options.prefix6_count && status == 0; i++) {
    status =
        bpf_map_update(maps_[kListenerMap_listener_trie6].get(), &options.prefixes6[i], &wanted);
  }
  if (status != 0) return status;

  failure->step = "BPF_MAP_UPDATE_ELEM sockets";
  for (uint32_t i = 0; i < kListenerSockets && status == 0; i++) {
    if (options.sockets[i] < 0) continue;
    const auto socket = static_cast<uint64_t>(options.sockets[i]);
    status = bpf_map_update(maps_[kListenerMap_sockets].get(), &i, &socket);
  }
  if (status != 0) return status;

  failure->step = "BPF_PROG_LOAD lookup";
  OwnedFd program;
  status = bpf_prog_load(kListenerPrograms[kListenerProgram_lookup], BPF_PROG_TYPE_SK_LOOKUP,
                         BPF_SK_LOOKUP, token.get(), maps_, &program, &failure->log);
  if (status != 0) return status;
  // This thread's: /proc/self is the process.
  failure->step = "open /proc/thread-self/ns/net";
  const OwnedFd netns(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return -errno;
  failure->step = "BPF_LINK_CREATE sk_lookup";
  return bpf_link_create(program.get(), netns.get(), BPF_SK_LOOKUP, &link_);
}

}  // namespace original_dst
