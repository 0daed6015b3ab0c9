// The part of a relay thread that acknowledges what an upstream has sent, where the kernel was told
// to wait for something that it can go along with.
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "relay/relay.h"
#include "relay/thread.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// Long enough for a client in the neighbourhood to hear of its connection and to send its request;
// not long to wait for a server that speaks first, and learns of the connection with it.
constexpr long kAckAfterUs = 100;
// While there are others to be served they may all be slower by then.
constexpr uint64_t kAckBusyAfterUs = 2000;

// Of Linux 5.11 and the same everywhere; headers may be older.
constexpr int kEpollPwait2 = 441;

}  // namespace

// A handshake that start_dial() has begun is acknowledged by the client's first bytes, and saves a
// packet, if there are some soon. From there on the kernel may hold back what acknowledges the
// answer, for 40 ms: in vain where the server has said the first half and sends the second once
// that has arrived (Nagle's algorithm).
void RelayThread::see_to_ack(Relay* relay) {
  const Flow& answer = relay->flows[kUpstream];
  const bool asked = relay->flows[kClient].moved() > 0;
  // An end is acknowledged by ours.
  const bool over = answer.done();
  const bool pending = !over && (!asked || answer.moved() > 0);
  if (over) relay->owes_ack = false;
  if (!pending) {
    owing_.remove(relay);
  } else if (!waits_finely_) {
    acknowledge(relay);
  } else if (!owing_.has(relay)) {
    relay->owes_since = now_us_;
    owing_.add(relay);
  }
}

void RelayThread::acknowledge(Relay* relay) {
  relay->owes_ack = false;
  set_quick_ack(relay->ends[kUpstream].fd.get(), true);
}

// `idle`: nothing has happened while it waited.
void RelayThread::acknowledge_due(bool idle) {
  while (Relay* const relay = owing_.first()) {
    if (!idle && now_us_ - relay->owes_since < kAckBusyAfterUs) return;
    owing_.remove(relay);
    acknowledge(relay);
  }
}

// epoll_wait(2), or epoll_pwait2(2) while there is something that cannot wait for a millisecond.
int RelayThread::wait(epoll_event* events, int most) {
  const int timeout = wait_ms();
  if (owing_.first() == nullptr || timeout == 0) {
    return epoll_wait(epoll_.get(), events, most, timeout);
  }
  const timespec until = {0, kAckAfterUs * 1000};
  const auto count = static_cast<int>(
      syscall(kEpollPwait2, epoll_.get(), events, most, &until, nullptr, size_t{0}));
  if (count >= 0 || errno == EINTR) return count;
  // An older kernel, or a filter of system calls: from here on nothing is put off.
  waits_finely_ = false;
  return epoll_wait(epoll_.get(), events, most, 0);
}

}  // namespace original_dst
