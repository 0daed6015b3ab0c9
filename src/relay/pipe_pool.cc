#include "relay/pipe_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace original_dst {

namespace {

// Four times the default: a quarter of the system calls. The kernel's default ceiling without
// CAP_SYS_RESOURCE is 1 MiB, but larger ones leave the processor's cache between the two splices.
constexpr int kCapacity = 256 * 1024;

}  // namespace

Pipe PipePool::borrow() {
  if (lent_ >= kMost) return {};
  Pipe pipe;
  if (kept_count_ > 0) {
    pipe = std::move(kept_[--kept_count_]);
  } else {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return {};
    pipe.read.reset(fds[0]);
    pipe.write.reset(fds[1]);
    // Refused (EPERM) when the user's share of pipe memory is used up; the small pipe works too.
    int capacity = fcntl(pipe.write.get(), F_SETPIPE_SZ, kCapacity);
    if (capacity < 0) capacity = fcntl(pipe.write.get(), F_GETPIPE_SZ);
    pipe.capacity = capacity > 0 ? static_cast<size_t>(capacity) : 4096;
  }
  lent_++;
  return pipe;
}

void PipePool::give_back(Pipe pipe) {
  lent_--;
  if (kept_count_ < kKept) kept_[kept_count_++] = std::move(pipe);
}

void PipePool::discard(Pipe) { lent_--; }

}  // namespace original_dst
