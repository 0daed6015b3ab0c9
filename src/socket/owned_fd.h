// The owner of a file descriptor: closed on every path, once.
#ifndef ORIGINAL_DST_SOCKET_OWNED_FD_H_
#define ORIGINAL_DST_SOCKET_OWNED_FD_H_

#include <unistd.h>

namespace original_dst {

class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() { reset(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1) {
    // EINTR is not retried: Linux has freed the number already, and by the time of a second
    // close(2) another thread may own it.
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_OWNED_FD_H_
