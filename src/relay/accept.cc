// The part of a relay thread that accepts connections itself.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "relay/counter.h"
#include "relay/inspect.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/listen.h"
#include "socket/mutex.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

constexpr uint32_t kMostAtOnce = 64;
// As much as a backlog holds, and no more: clients may go on coming.
constexpr int kTurnsAtClose = 1024;

// How long accepting is paused for want of a descriptor. Nobody tells when the program closes one.
constexpr uint64_t kPauseMs = 50;

// How long the client's part of a handshake may be on its way. One that is begun meanwhile is not
// answered, and is begun anew by the client a second after (RFC 6298: the initial RTO): later than
// this.
constexpr uint64_t kHandshakeMs = 500;

}  // namespace

// Of several threads the first in the socket's queue of those that sleep is woken, and no other.
// Our own socket in our own set: refused only for want of memory, and then the listener accepts
// nothing, which its clients see as they would any proxy that cannot go on.
void RelayThread::watch(RelayListener* listener) {
  const uint32_t alone = listener->shared ? static_cast<uint32_t>(EPOLLEXCLUSIVE) : 0U;
  watch(EPOLL_CTL_ADD, listener->fd.get(), listener, EPOLLIN | alone);
}

void RelayThread::begin_listening(RelayListener* listener) {
  listener->next = listeners_;
  listeners_ = listener;
  listener->listening = true;
  watch(listener);
}

void RelayThread::end_listening(RelayListener* listener, bool destroy) {
  // It may be over by now, and deleted: compared, not looked into.
  RelayListener* known = listeners_;
  while (known != nullptr && known != listener) known = known->next;
  if (known == nullptr) return;
  if (listener->listening && !destroy) {
    if (listener->group->reuse_port && listener->closes_at == 0) {
      // A handshake that was begun here comes to its end here, or is reset: only new ones go to the
      // other sockets of the port.
      refuse_handshakes(listener->fd.get(), true);
      listener->closes_at = now_ + kHandshakeMs;
    }
    if (listener->closes_at > now_) return;
    // close(2) resets what waits to be accepted.
    for (int turns = 0; turns < kTurnsAtClose && accept(listener); turns++) continue;
  }
  if (listener->listening) {
    stop_accepting(listener);
    if (listener->is_over()) return dismiss(listener);
  }
  // The last one takes the listener along.
  for (Waiting* one = destroy ? listener->waiting : nullptr; one != nullptr;) {
    Waiting* const next = one->next;
    const bool last = next == nullptr && listener->relays.first() == nullptr;
    refuse(one, kNotRunning);
    if (last) return;
    one = next;
  }
  for (Relay* relay = destroy ? listener->relays.first() : nullptr; relay != nullptr;) {
    Relay* const next = listener->relays.after(relay);
    close(relay, kRelayAborted, kNeither, 0);
    relay = next;
  }
}

void RelayThread::stop_accepting(RelayListener* listener) {
  listener->listening = false;
  listener->ready = false;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener->fd.get(), nullptr);
  watched_.leave(listener);
  // Whoever has the socket too, of another program perhaps, goes on with it.
  if (listener->group->stops_listening() && listener->closes_at != 0) {
    refuse_handshakes(listener->fd.get(), false);
  }
  listener->fd.reset();
  listener->spare.reset();
}

// Nothing of the listener's is left: TypeScript is told, and may delete it.
void RelayThread::dismiss(RelayListener* listener) {
  RelayListener** at = &listeners_;
  while (*at != listener) at = &(*at)->next;
  *at = listener->next;
  hand_up_records();
  auto* const over = new News;
  over->kind = News::kOver;
  over->listener = listener;
  hand_up(over);
}

// Returns whether more may be waiting.
bool RelayThread::accept(RelayListener* listener) {
  listener->ready = false;
  const uint32_t most = listener->at_once;
  listener->at_once = std::min(most * 2, kMostAtOnce);
  for (uint32_t i = 0; i < most; i++) {
    OwnedFd accepted;
    Facts facts;
    const RelayListener::Accepted answer = listener->accept_one(&accepted, &facts);
    if (answer == RelayListener::Accepted::kNone) {
      listener->at_once = std::max(i, 1U);
      let_others(listener);
      return false;
    }
    if (answer == RelayListener::Accepted::kCannot) {
      pause(listener);
      return false;
    }
    if (answer == RelayListener::Accepted::kNotThisOne) continue;
    if (answer == RelayListener::Accepted::kRefused) {
      record_refusal(listener, facts, nullptr, nullptr, kRelayError, EMFILE);
      continue;
    }
    Admission admission;
    const Admitted admitted = listener->group->admit(facts.peer, now_, &admission);
    if (admitted != kYes) {
      refuse(listener, accepted, facts, nullptr, nullptr, admitted);
      continue;
    }
    if (listener->headers.are_from(facts.peer)) {
      await_header(listener, std::move(accepted), facts, std::move(admission));
      continue;
    }
    Endpoint found;
    const bool certain = listener->destination(accepted.get(), &facts, &found);
    const Endpoint* const destination = certain ? &found : nullptr;
    // Where it is not certain its port is a good guess, enough to look or not to look.
    if (listener->inspection.covers(certain ? found.port : likely_destination(facts).port)) {
      inspect(listener, std::move(accepted), facts, destination, std::move(admission));
    } else {
      decide(listener, std::move(accepted), &facts, destination, nullptr, false,
             std::move(admission));
    }
  }
  // A turn, as for bytes. What is left is reported again, to whichever thread is idle.
  let_others(listener);
  return true;
}

// Sends RST, and says so.
void RelayThread::refuse(RelayListener* listener, const OwnedFd& accepted, const Facts& facts,
                         const Endpoint* destination, const Seen* seen, Admitted why) {
  add_to(&listener->stats->refused[why - 1], 1);
  record_refusal(listener, facts, destination, seen, Record::kNotAdmitted, why);
  reset_on_close(accepted.get());
}

void RelayThread::decide(RelayListener* listener, OwnedFd accepted, Facts* facts,
                         const Endpoint* destination, Seen* seen, bool watched,
                         Admission admission) {
  Handled handled;
  if (destination != nullptr) {
    const bool looked = seen != nullptr && seen->looked;
    const Wanted wanted = looked ? Wanted(seen->first) : Wanted();
    handled = listener->handle(accepted.get(), *destination, wanted, now_, *facts, seen);
  }
  switch (handled.verdict) {
    case kUndecided: {
      // Its socket is the other thread's from here on.
      if (watched) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, accepted.get(), nullptr);
      if (!admission.wait()) {
        refuse(listener, accepted, *facts, destination, seen, kTooManyPending);
        break;
      }
      News* const one = listener->undecided(std::move(accepted), *facts, std::move(admission));
      one->client = client_of(*facts, seen);
      one->accepted_us = seen == nullptr ? now_us_ : seen->accepted_us;
      if (seen != nullptr) {
        one->seen = std::make_unique<Seen>(std::move(*seen));
        if (one->seen->looked) {
          one->seen->bytes.reset(new uint8_t[one->seen->size]);
          memcpy(one->seen->bytes.get(), tools_.scratch, one->seen->size);
        }
      }
      hand_up(one);
      break;
    }
    case kResetIt:
      record_verdict(record_of(listener, *facts, destination, seen), handled);
      reset_on_close(accepted.get());
      break;
    case kRelayIt: {
      Relay* const relay = new Relay;
      relay->listener = listener;
      relay->limits = listener->limits;
      relay->connecting = true;
      relay->note = handled.note;
      relay->record = record_of(listener, *facts, destination, seen);
      if (relay->record != nullptr && handled.tproxy) relay->record->kind = Record::kTproxy;
      admission.decided();
      relay->admission = std::move(admission);
      listener->relays.add(relay);
      add_to(&listener->stats->open, 1);
      relay->open(std::move(accepted), std::move(handled.upstream), kBothFresh);
      relay->ends[kClient].watched = watched;
      if (handled.route) {
        const Endpoint& client = client_of(*facts, seen);
        relay->onward =
            std::make_unique<Onward>(std::move(handled.route), listener->plan.dial(client), client);
        if (!dial_hop(relay)) break;
      }
      watch(relay);
      break;
    }
  }
}

// Else the thread that was the first to listen would get every connection that finds it idle, and
// have all the work of those that stay: from here on it is the last in the queue.
void RelayThread::let_others(RelayListener* listener) {
  if (!listener->shared) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener->fd.get(), nullptr);
  watch(listener);
}

// Else the listener, which stays readable, would be reported again and again, with nothing done.
void RelayThread::pause(RelayListener* listener) {
  listener->paused_until = now_ + kPauseMs;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener->fd.get(), nullptr);
}

void RelayThread::resume(RelayListener* listener) {
  if (!listener->take_spare()) {
    listener->paused_until = now_ + kPauseMs;
    return;
  }
  listener->paused_until = 0;
  watch(listener);
}

void RelayThread::serve_listeners() {
  for (RelayListener *one = listeners_, *next = nullptr; one != nullptr; one = next) {
    next = one->next;
    if (!one->listening) continue;
    if (one->paused_until != 0 && one->paused_until <= now_) resume(one);
    if (one->closes_at != 0 && one->closes_at <= now_) {
      end_listening(one, false);
    } else if (one->ready) {
      accept(one);
    } else {
      one->at_once = 1;
    }
  }
}

// When the first of them is to be resumed or closed, or UINT64_MAX.
uint64_t RelayThread::listeners_due() const {
  uint64_t first = UINT64_MAX;
  for (const RelayListener* one = listeners_; one != nullptr; one = one->next) {
    if (!one->listening) continue;
    if (one->paused_until != 0) first = std::min(first, one->paused_until);
    if (one->closes_at != 0) first = std::min(first, one->closes_at);
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
  listener->relays.remove(relay);
  add_to(&listener->stats->open, -1);
  delete relay;
  if (listener->is_over()) dismiss(listener);
}

}  // namespace original_dst
