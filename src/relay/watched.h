// Who is watched by a relay thread, and what epoll keeps of each.
#ifndef ORIGINAL_DST_RELAY_WATCHED_H_
#define ORIGINAL_DST_RELAY_WATCHED_H_

#include <stdint.h>

namespace original_dst {

// Base of what has events.
struct Watched {
  enum Kind : uint8_t { kEndpoint, kListener, kWaiting };
  explicit Watched(Kind of) : kind(of) {}
  uint64_t key = 0;  // 0: not in the table
  const Kind kind;
};

// close(2) takes a socket out of the epoll set by itself, if nobody else has a descriptor of it. A
// child that was forked a moment ago has, until it calls execve(2): so there may be events of what
// is long gone. Hence epoll keeps no pointers but keys, and no key comes twice (in 2^32 turns of
// its place). EPOLL_CTL_DEL before every close, the other way, is two system calls a connection.
class WatchedTable {
 public:
  // Set in no key, so that epoll may keep other things besides.
  static constexpr uint64_t kForeign = 1;

  WatchedTable() = default;
  WatchedTable(const WatchedTable&) = delete;
  WatchedTable& operator=(const WatchedTable&) = delete;
  ~WatchedTable();

  // Gives it a key, if it has none. Returns 0 or -ENOMEM.
  int enter(Watched* one);
  void leave(Watched* one);
  // Null: it is gone.
  Watched* find(uint64_t key) const;

 private:
  struct Place {
    Watched* one;         // null: free
    uint32_t generation;  // from 1
    uint32_t next_free;   // its index and one more
  };
  static uint64_t key_of(uint32_t index, uint32_t generation);

  Place* places_ = nullptr;
  uint32_t count_ = 0;
  uint32_t room_ = 0;
  uint32_t free_ = 0;  // as next_free
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_WATCHED_H_
