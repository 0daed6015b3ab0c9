// The part of a relay thread that looks at first bytes.
#include "relay/inspect.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "relay/counter.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// Edge-triggered: an event for whatever arrives, none for what has been looked at and left there.
constexpr uint32_t kEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

// Every look costs a copy of all that is there. A client that sends byte by byte is looked at as
// often as this at once, then only at intervals: its hello may come late, this thread's other work
// may not.
constexpr uint32_t kLooksAtOnce = 16;
constexpr uint64_t kLookIntervalMs = 25;

}  // namespace

// Null: there is no room for it.
Waiting* RelayThread::let_wait(RelayListener* listener, OwnedFd accepted, const Facts& facts,
                               const Endpoint* destination, Admission admission) {
  if (!admission.wait()) {
    refuse(listener, accepted, facts, destination, nullptr, kTooManyPending);
    return nullptr;
  }
  auto* const one = new Waiting;
  one->fd = std::move(accepted);
  one->admission = std::move(admission);
  one->facts = facts;
  one->certain = destination != nullptr;
  if (one->certain) one->destination = *destination;
  one->listener = listener;
  one->since = static_cast<uint32_t>(now_);
  one->next = listener->waiting;
  if (listener->waiting != nullptr) listener->waiting->previous = one;
  listener->waiting = one;
  add_to(&listener->stats->inspecting, 1);
  return one;
}

void RelayThread::await_header(RelayListener* listener, OwnedFd accepted, const Facts& facts,
                               Admission admission) {
  Waiting* const one =
      let_wait(listener, std::move(accepted), facts, nullptr, std::move(admission));
  if (one == nullptr) return;
  const uint32_t timeout_ms = listener->headers.timeout_ms;
  one->deadline = timeout_ms == 0 ? UINT64_MAX : now_ + timeout_ms;
  one->awaits_header = true;
  look(one, false);
}

void RelayThread::inspect(RelayListener* listener, OwnedFd accepted, const Facts& facts,
                          const Endpoint* destination, Admission admission) {
  Waiting* const one =
      let_wait(listener, std::move(accepted), facts, destination, std::move(admission));
  if (one == nullptr) return;
  one->deadline = now_ + listener->inspection.timeout_ms;
  // On a busy thread the bytes are there by now, and then nothing has to be watched.
  look(one, false);
}

void RelayThread::note_waiting(Waiting* one, uint32_t events) {
  if ((events & ~EPOLLIN) != 0) one->ended = true;
  if (one->ready) return;
  one->ready = true;
  one->next_ready = ready_;
  ready_ = one;
}

void RelayThread::serve_waiting() {
  while (ready_ != nullptr) {
    Waiting* const one = ready_;
    ready_ = one->next_ready;
    one->ready = false;
    if (one->ended || one->looks < kLooksAtOnce) {
      look(one, false);
    } else if (one->due == one->deadline) {
      waiting_timers_.arm(one, std::min(one->deadline, now_ + kLookIntervalMs));
    }
  }
}

void RelayThread::expire_waiting() {
  for (Timed* first = waiting_timers_.first(); first != nullptr && first->due <= now_;
       first = waiting_timers_.first()) {
    auto* const one = static_cast<Waiting*>(first);
    waiting_timers_.disarm(one);
    look(one, one->deadline <= now_);
  }
}

// `over`: there is no more time.
void RelayThread::look(Waiting* one, bool over) {
  if (one->awaits_header) return look_for_header(one, over);
  const size_t most = one->listener->inspection.max_bytes;
  size_t size = 0;
  if (!peek(one, most, &size)) return;
  FirstBytes first;
  const size_t need = parse_first_bytes(tools_.scratch, size, &first);
  if (need == 0 || need > most || one->ended || over || !wait_for(one, need, size)) {
    settle(one, first, size);
  }
}

// Into the scratch buffer, without taking anything. Returns false when the client has reset it, and
// then it is forgotten.
bool RelayThread::peek(Waiting* one, size_t most, size_t* size) {
  const ssize_t got = recv(one->fd.get(), tools_.scratch, most, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && errno != EAGAIN && errno != EINTR) {
    forget_gone(one);
    return false;
  }
  if (got == 0) one->ended = true;
  if (one->looks < kLooksAtOnce) one->looks++;
  *size = got > 0 ? static_cast<size_t>(got) : 0;
  return true;
}

// Returns false where there is no memory to wait with.
bool RelayThread::wait_for(Waiting* one, size_t need, size_t size) {
  // A hello says how long it is: the kernel keeps quiet until all of it has arrived, or the end.
  const uint32_t low_water = need > size + 1 ? static_cast<uint32_t>(need) : 1;
  if (low_water != one->low_water && set_low_water(one->fd.get(), low_water) == 0) {
    one->low_water = low_water;
  }
  if (!one->watched) {
    if (watch(EPOLL_CTL_ADD, one->fd.get(), one, kEvents) != 0) return false;
    one->watched = true;
  }
  return one->timer_index != 0 || waiting_timers_.arm(one, one->deadline) == 0;
}

// It has said enough, or will not say more: decided about as any other.
void RelayThread::settle(Waiting* one, const FirstBytes& first, size_t size) {
  Seen seen = one->seen(now_us_);
  seen.looked = true;
  seen.first = first;
  seen.size = size;
  decide(one, &seen);
}

void RelayThread::decide(Waiting* one, Seen* seen) {
  if (one->low_water != 1) set_low_water(one->fd.get(), 1);
  // Still one of the listener's: a relay that ends at once must not be its last.
  decide(one->listener, std::move(one->fd), &one->facts, one->known_destination(), seen,
         one->watched, std::move(one->admission));
  forget(one);
}

void RelayThread::refuse(Waiting* one, Admitted why) {
  const Seen seen = one->seen(now_us_);
  refuse(one->listener, one->fd, one->facts, one->known_destination(), &seen, why);
  forget(one);
}

// The client has reset the connection.
void RelayThread::forget_gone(Waiting* one) {
  add_to(&one->listener->stats->gone, 1);
  const Seen seen = one->seen(now_us_);
  record_refusal(one->listener, one->facts, one->known_destination(), &seen, Record::kClientGone,
                 0);
  forget(one);
}

void RelayThread::forget(Waiting* one) {
  RelayListener* const listener = one->listener;
  waiting_timers_.disarm(one);
  watched_.leave(one);
  (one->previous == nullptr ? listener->waiting : one->previous->next) = one->next;
  if (one->next != nullptr) one->next->previous = one->previous;
  add_to(&listener->stats->inspecting, -1);
  delete one;
  if (listener->is_over()) dismiss(listener);
}

}  // namespace original_dst
