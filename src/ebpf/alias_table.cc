#include "ebpf/alias_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "socket/mutex.h"

namespace original_dst {

namespace {

constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void words(const Endpoint& endpoint, uint32_t (&to)[4]) {
  if (endpoint.family == 4) {
    memcpy(to, kMapped, sizeof(kMapped));
    memcpy(&to[3], endpoint.bytes, 4);
  } else {
    memcpy(to, endpoint.bytes, 16);
  }
}

// As is_alias() of programs/capture.bpf.c.
bool alias_number(const CaptureConfig& config, const Endpoint& local, uint64_t* number) {
  if (local.port != ntohs(config.port)) return false;
  uint32_t address[4];
  words(local, address);
  const uint32_t last = ntohl(address[3]);
  if (local.family == 4) {
    *number = last & kCaptureAlias4Mask;
    return (last & ~static_cast<uint32_t>(kCaptureAlias4Mask)) == kCaptureAlias4;
  }
  *number = static_cast<uint64_t>(ntohl(address[2])) << 32 | last;
  return local.family == 6 && address[0] == config.prefix6[0] && address[1] == config.prefix6[1];
}

void to_endpoint(const CaptureDestination& from, Endpoint* to) {
  *to = {};
  to->port = ntohs(from.port);
  if (memcmp(from.address, kMapped, sizeof(kMapped)) == 0) {
    to->family = 4;
    memcpy(to->bytes, &from.address[3], 4);
  } else {
    to->family = 6;
    memcpy(to->bytes, from.address, 16);
  }
}

}  // namespace

MappedMap::~MappedMap() {
  if (memory_ != nullptr) munmap(memory_, size_);
}

int MappedMap::map(int fd, size_t size) {
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return -errno;
  memory_ = memory;
  size_ = size;
  return 0;
}

int AliasTable::open(int aliases, uint32_t entries, int witnesses, const CaptureConfig& config) {
  config_ = config;
  const int status = aliases_.map(aliases, entries * sizeof(CaptureAlias));
  if (status != 0) return status;
  return witnesses_.map(witnesses, kCaptureWitnessSets * sizeof(CaptureWitnesses));
}

uint16_t AliasTable::port() const { return ntohs(config_.port); }

bool AliasTable::covers(const Endpoint& local) const {
  uint64_t number = 0;
  return alias_number(config_, local, &number);
}

int AliasTable::take_connection(const Endpoint& local, const Endpoint& peer,
                                Endpoint* destination) {
  uint64_t number = 0;
  if (!alias_number(config_, local, &number)) return -ENOENT;
  const auto low = static_cast<uint32_t>(number);
  uint32_t address[4];
  words(peer, address);
  const uint32_t source =
      peer.family == 4 ? address[3] : capture_fold(address[0], address[1], address[2], address[3]);
  const uint64_t tag = capture_tag(source, peer.port, low);
  auto& set = static_cast<CaptureWitnesses*>(witnesses_.memory())[capture_set(peer.port, low)];
  bool seen = false;
  for (CaptureWitness& one : set.way) {
    __u64 expected = tag;
    seen = __atomic_compare_exchange_n(&one.tag, &expected, 0, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
    if (seen) break;
  }
  return seen ? find(local, IPPROTO_TCP, destination) : -EACCES;
}

int AliasTable::find_datagram(const Endpoint& local, Endpoint* destination) const {
  return find(local, IPPROTO_UDP, destination);
}

int AliasTable::find(const Endpoint& local, uint8_t protocol, Endpoint* destination) const {
  uint64_t number = 0;
  if (!alias_number(config_, local, &number)) return -ENOENT;
  const uint64_t room = local.family == 4 ? uint64_t{kCaptureAlias4Mask} : UINT64_MAX >> 1;
  const auto& entry =
      static_cast<const CaptureAlias*>(aliases_.memory())[number & config_.ring_mask];
  // A number is given out once, and what belongs to it is written between two states: if the state
  // is the same before and after, and is no writer's, this is what belongs to the number.
  const uint64_t before = __atomic_load_n(&entry.state, __ATOMIC_ACQUIRE);
  if ((before & 1) != 0 || (before >> 1 & room) != number) return -ESTALE;
  CaptureDestination copy = {};
  // Each acquires, so that the second look at the state comes after it. A fence would do, too, but
  // ThreadSanitizer knows none.
  for (size_t i = 0; i < sizeof(copy) / sizeof(uint64_t); i++) {
    reinterpret_cast<uint64_t*>(&copy)[i] = __atomic_load_n(
        reinterpret_cast<const uint64_t*>(&entry.destination) + i, __ATOMIC_ACQUIRE);
  }
  if (__atomic_load_n(&entry.state, __ATOMIC_RELAXED) != before) return -ESTALE;
  if (copy.protocol != protocol) return -ESTALE;
  to_endpoint(copy, destination);
  return 0;
}

bool AliasTables::add(AliasTable* table) {
  const Locked locked(&mutex_);
  AliasTable** const free = std::find(tables_, tables_ + kMost, nullptr);
  if (free == tables_ + kMost) return false;
  *free = table;
  count_.fetch_add(1, std::memory_order_release);
  return true;
}

void AliasTables::remove(const AliasTable* table) {
  const Locked locked(&mutex_);
  AliasTable** const at = std::find(tables_, tables_ + kMost, table);
  if (at == tables_ + kMost) return;
  *at = nullptr;
  count_.fetch_sub(1, std::memory_order_release);
}

bool AliasTables::read_connection(int fd, Facts* facts) {
  if (local_endpoint(fd, &facts->local) != 0) return false;
  const Locked locked(&mutex_);
  int status = 0;
  bool covered = false;
  // A capture that has ended is still asked, so that there may be two for one port: the one that
  // has the witness knows.
  for (AliasTable* table : tables_) {
    if (table == nullptr || !table->covers(facts->local)) continue;
    if (!covered && facts->peer.family == 0) facts->peer_status = peer_endpoint(fd, &facts->peer);
    covered = true;
    const int answer = facts->peer_status != 0
                           ? facts->peer_status
                           : table->take_connection(facts->local, facts->peer, &facts->captured);
    if (answer == 0) status = 1;
    if (status == 0 || status == -EACCES) status = answer;
    if (status > 0) break;
  }
  // Nobody asks conntrack about it: nothing has rewritten a packet.
  if (covered) facts->original_status = -ENOENT;
  facts->capture_status = status;
  return covered;
}

int AliasTables::find_datagram(const Endpoint& local, Endpoint* destination) {
  const Locked locked(&mutex_);
  int status = 0;
  for (const AliasTable* table : tables_) {
    if (table == nullptr || !table->covers(local)) continue;
    Endpoint found = {};
    const int answer = table->find_datagram(local, &found);
    // Two that say different things: an alias of IPv4 has room for a part of the number alone.
    if (answer == 0 && status > 0 && !same_address(found, *destination)) return -ESTALE;
    if (answer == 0) *destination = found;
    if (status <= 0) status = answer == 0 ? 1 : answer;
  }
  return status;
}

}  // namespace original_dst
