// Pipes for splice(2), shared by the relays of one thread.
#ifndef ORIGINAL_DST_RELAY_PIPE_POOL_H_
#define ORIGINAL_DST_RELAY_PIPE_POOL_H_

#include <stddef.h>

#include "socket/owned_fd.h"

namespace original_dst {

struct Pipe {
  OwnedFd read;
  OwnedFd write;
  size_t capacity = 0;

  bool valid() const { return read.valid(); }
};

// A relay borrows a pipe while bytes are in flight and gives it back empty: an idle relay costs
// none. Bounded, because every pipe is two descriptors and counts against the user's share of pipe
// memory (/proc/sys/fs/pipe-user-pages-soft); a relay that gets none copies through user memory.
class PipePool {
 public:
  // Null pipe: all are in use, or the kernel gives no more (EMFILE, ENFILE, ENOMEM).
  Pipe borrow();
  // The pipe must be empty; one with bytes in it is to be dropped with discard().
  void give_back(Pipe pipe);
  void discard(Pipe pipe);

 private:
  static constexpr size_t kMost = 128;
  static constexpr size_t kKept = 32;

  Pipe kept_[kKept];
  size_t kept_count_ = 0;
  size_t lent_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_PIPE_POOL_H_
