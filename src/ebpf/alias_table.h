// Which destination an alias stands for: the memory that the capture's BPF programs write and this
// process reads.
#ifndef ORIGINAL_DST_EBPF_ALIAS_TABLE_H_
#define ORIGINAL_DST_EBPF_ALIAS_TABLE_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <atomic>

#include "ebpf/programs/capture.h"
#include "socket/original_dst.h"

namespace original_dst {

// mmap(2) of a map's values.
class MappedMap {
 public:
  MappedMap() = default;
  MappedMap(const MappedMap&) = delete;
  MappedMap& operator=(const MappedMap&) = delete;
  ~MappedMap();
  int map(int fd, size_t size);
  void* memory() const { return memory_; }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0;
};

class AliasTable {
 public:
  // Returns 0 or -errno. `entries`: of the map of aliases, a power of two.
  int open(int aliases, uint32_t entries, int witnesses, const CaptureConfig& config);

  uint16_t port() const;  // of the aliases
  // Is it an alias of this capture's?
  bool covers(const Endpoint& local) const;
  // Where the connection between an accepted socket's two addresses was going. Once: the witness is
  // used up, so that a later connection with the same addresses is not taken for this one. Returns
  // 0, or -EACCES: no program that is captured has made this connection, or its witness is lost;
  // -ESTALE: the alias stands for another destination by now.
  int take_connection(const Endpoint& local, const Endpoint& peer, Endpoint* destination);
  // The same for a datagram, for which there are no witnesses: the socket's filter lets none pass
  // that somebody else has sent.
  int find_datagram(const Endpoint& local, Endpoint* destination) const;

 private:
  int find(const Endpoint& local, uint8_t protocol, Endpoint* destination) const;

  MappedMap aliases_;
  MappedMap witnesses_;
  CaptureConfig config_ = {};
};

// The captures of this thread's, for whatever thread accepts for it.
class AliasTables {
 public:
  AliasTables() = default;
  AliasTables(const AliasTables&) = delete;
  AliasTables& operator=(const AliasTables&) = delete;

  // Returns false when there are too many.
  bool add(AliasTable* table);
  void remove(const AliasTable* table);
  bool any() const { return count_.load(std::memory_order_acquire) > 0; }

  // Of an accepted socket, of which `facts->peer` and `facts->peer_status` may be known already
  // (family 0: they are not). Returns false where its local address is no alias; then
  // `facts->local` is all that was written. Else `facts` are complete.
  bool read_connection(int fd, Facts* facts);
  // Where a datagram for this local address was going: 1, 0: that is no alias, or -errno.
  int find_datagram(const Endpoint& local, Endpoint* destination);

 private:
  static constexpr size_t kMost = 16;

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  AliasTable* tables_[kMost] = {};
  std::atomic<size_t> count_{0};
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_ALIAS_TABLE_H_
