// The part of a relay thread that accepts connections itself.
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "relay/counter.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/mutex.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

constexpr int kAcceptsAtOnce = 64;

// How long accepting is paused for want of a descriptor. Nobody tells when the program closes one.
constexpr uint64_t kPauseMs = 50;

}  // namespace

void RelayThread::begin_listening(RelayListener* listener) {
  listener->next = listeners_;
  listeners_ = listener;
  listener->listening = true;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.ptr = static_cast<Watched*>(listener);
  // Our own socket in our own set: refused only for want of memory, and then the listener accepts
  // nothing, which its clients see as they would any proxy that cannot go on.
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener->fd.get(), &event);
}

void RelayThread::end_listening(RelayListener* listener, bool destroy) {
  // It may be over by now, and deleted: compared, not looked into.
  RelayListener* known = listeners_;
  while (known != nullptr && known != listener) known = known->next;
  if (known == nullptr) return;
  if (listener->listening) {
    listener->listening = false;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener->fd.get(), nullptr);
    listener->fd.reset();
    listener->spare.reset();
    if (listener->first == nullptr) return dismiss(listener);
  }
  // The last one takes the listener along.
  for (Relay* relay = destroy ? listener->first : nullptr; relay != nullptr;) {
    Relay* const next = relay->next_of_listener;
    close(relay, kRelayAborted, kNeither, 0);
    relay = next;
  }
}

// Nothing of the listener's is left: TypeScript is told, and may delete it.
void RelayThread::dismiss(RelayListener* listener) {
  RelayListener** at = &listeners_;
  while (*at != listener) at = &(*at)->next;
  *at = listener->next;
  auto* const over = new News;
  over->kind = News::kOver;
  over->listener = listener;
  hand_up(over);
}

void RelayThread::accept(RelayListener* listener) {
  listener->ready = false;
  // A turn, as for bytes; what is left is reported again.
  for (int i = 0; i < kAcceptsAtOnce; i++) {
    OwnedFd accepted;
    Facts facts;
    const RelayListener::Accepted answer = listener->accept_one(&accepted, &facts);
    if (answer == RelayListener::Accepted::kNone) return;
    if (answer == RelayListener::Accepted::kCannot) return pause(listener);
    if (answer == RelayListener::Accepted::kNotThisOne) continue;
    OwnedFd upstream;
    DialNote note;
    switch (listener->handle(accepted.get(), now_, &facts, &upstream, &note)) {
      case kUndecided:
        hand_up(listener->undecided(std::move(accepted), facts));
        break;
      case kResetIt:
        reset_on_close(accepted.get());
        break;
      case kRelayIt: {
        Relay* const relay = new Relay;
        relay->listener = listener;
        relay->limits = listener->limits;
        relay->connecting = true;
        relay->note = note;
        relay->next_of_listener = listener->first;
        if (listener->first != nullptr) listener->first->previous_of_listener = relay;
        listener->first = relay;
        add_to(&listener->stats->open, 1);
        relay->open(std::move(accepted), std::move(upstream), true);
        watch(relay);
        break;
      }
    }
  }
}

// Else the listener, which stays readable, would be reported again and again, with nothing done.
void RelayThread::pause(RelayListener* listener) {
  listener->paused_until = now_ + kPauseMs;
  epoll_event event = {};
  event.data.ptr = static_cast<Watched*>(listener);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener->fd.get(), &event);
}

void RelayThread::resume(RelayListener* listener) {
  if (!listener->take_spare()) return pause(listener);
  listener->paused_until = 0;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.ptr = static_cast<Watched*>(listener);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener->fd.get(), &event);
}

void RelayThread::serve_listeners() {
  for (RelayListener* one = listeners_; one != nullptr; one = one->next) {
    if (!one->listening) continue;
    if (one->paused_until != 0 && one->paused_until <= now_) resume(one);
    if (one->ready) accept(one);
  }
}

// When the first of them is to be resumed, or UINT64_MAX.
uint64_t RelayThread::resume_at() const {
  uint64_t first = UINT64_MAX;
  for (const RelayListener* one = listeners_; one != nullptr; one = one->next) {
    if (one->listening && one->paused_until != 0) first = std::min(first, one->paused_until);
  }
  return first;
}

void RelayThread::on_connection_gone(uint64_t tag) {
  auto* const gone = new News;
  gone->kind = News::kGone;
  gone->tag = tag;
  hand_up(gone);
}

void RelayThread::hand_up(News* one) {
  const Locked locked(&mutex_);
  *news_tail_ = one;
  news_tail_ = &one->next;
  news_ = true;
}

// The end of a relay that TypeScript has never heard of.
void RelayThread::forget(Relay* relay) {
  RelayListener* const listener = relay->listener;
  if (relay->previous_of_listener != nullptr) {
    relay->previous_of_listener->next_of_listener = relay->next_of_listener;
  } else {
    listener->first = relay->next_of_listener;
  }
  if (relay->next_of_listener != nullptr) {
    relay->next_of_listener->previous_of_listener = relay->previous_of_listener;
  }
  add_to(&listener->stats->open, -1);
  delete relay;
  if (!listener->listening && listener->first == nullptr) dismiss(listener);
}

}  // namespace original_dst
