// A thread that waits until sockets can be read.
#ifndef ORIGINAL_DST_DATAGRAM_POLLER_H_
#define ORIGINAL_DST_DATAGRAM_POLLER_H_

#include <pthread.h>
#include <stdint.h>

#include "socket/owned_fd.h"

namespace original_dst {

// epoll_wait(2) in a thread of its own. It only waits: who is told reads the socket in its own
// thread, as much as it can digest, and then asks to be told again (EPOLLONESHOT). So nothing is
// ever queued between the threads but one number for each socket, and a reader that is slow shows
// in the kernel's drop counter and nowhere else.
class Poller {
 public:
  // Called on the poller's thread.
  using Ready = void (*)(void* context, uint32_t id);

  Poller() = default;
  ~Poller() { stop(); }
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // epoll_create1(2), eventfd(2), pthread_create(3). Returns 0 or -errno; then stop() is still due.
  int start(Ready ready, void* context);

  // Ends the thread and waits for its end: `ready` is not called any more. Closes the descriptors.
  // Any number of times.
  void stop();

  // epoll_ctl(2). One call of `ready(id)` follows each arm(), when there is something to read.
  int add(int fd, uint32_t id);
  int arm(int fd, uint32_t id);
  int remove(int fd);

 private:
  static void* run(void* self);
  int control(int operation, int fd, uint32_t events, uint64_t data);

  OwnedFd epoll_;
  OwnedFd wake_;  // readable: stop
  pthread_t thread_ = {};
  bool running_ = false;
  Ready ready_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_DATAGRAM_POLLER_H_
