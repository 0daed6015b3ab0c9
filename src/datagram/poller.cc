#include "datagram/poller.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "socket/signals_blocked.h"

namespace original_dst {

namespace {

// Not an id: those have 32 bits.
constexpr uint64_t kStop = UINT64_MAX;
constexpr int kEvents = 64;

}  // namespace

int Poller::start(Ready ready, void* context) {
  ready_ = ready;
  context_ = context;
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return -errno;
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return -errno;
  int status = control(EPOLL_CTL_ADD, wake_.get(), EPOLLIN, kStop);
  if (status != 0) return status;
  const SignalsBlocked blocked;
  status = -pthread_create(&thread_, nullptr, run, this);
  running_ = status == 0;
  return status;
}

void Poller::stop() {
  if (running_) {
    const uint64_t one = 1;
    // Cannot fail: nothing else is ever written there.
    (void)!write(wake_.get(), &one, sizeof(one));
    pthread_join(thread_, nullptr);
  }
  running_ = false;
  epoll_.reset();
  wake_.reset();
}

int Poller::add(int fd, uint32_t id) {
  return control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, id);
}

int Poller::arm(int fd, uint32_t id) {
  return control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, id);
}

int Poller::remove(int fd) { return control(EPOLL_CTL_DEL, fd, 0, 0); }

int Poller::control(int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epoll_.get(), operation, fd, &event) == 0 ? 0 : -errno;
}

void* Poller::run(void* self) {
  const Poller& poller = *static_cast<Poller*>(self);
  epoll_event events[kEvents];
  for (;;) {
    // Fails with EINTR only: the descriptor is ours for as long as the thread is.
    const int count = epoll_wait(poller.epoll_.get(), events, kEvents, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 == kStop) return nullptr;
      poller.ready_(poller.context_, static_cast<uint32_t>(events[i].data.u64));
    }
  }
}

}  // namespace original_dst
