// The part of a relay thread that runs relays, from their first event to their end.
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "relay/counter.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/mutex.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// Without EPOLLOUT, which is asked for where it is waited for: with it, each change of the state
// (the peer has acknowledged our FIN) wakes this thread to say once more that there is room.
constexpr uint32_t kEvents = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;

constexpr uint64_t kTellEndsAfterMs = 5;

}  // namespace

void RelayThread::begin(Relay* relay) {
  if (relay->id >= table_size_) {
    const size_t size = std::max<size_t>(table_size_ * 2, relay->id + size_t{64});
    void* const table = realloc(table_, size * sizeof(void*));
    if (table == nullptr) return close(relay, kRelayError, kNeither, ENOMEM);
    table_ = static_cast<Relay**>(table);
    std::fill(table_ + table_size_, table_ + size, nullptr);
    table_size_ = size;
  }
  table_[relay->id] = relay;
  if (relay->dial != nullptr && !start_dialling(relay)) return;
  if (relay->onward != nullptr) {
    relay->open(std::move(relay->ends[kClient].fd), OwnedFd(), kBothFresh);
    if (!dial_hop(relay)) return;
  }
  // Bytes that came along do not wait for an event.
  if (watch(relay)) busy_.add(relay);
}

// Returns false when the relay has closed.
bool RelayThread::start_dialling(Relay* relay) {
  const std::unique_ptr<Dial> dial = std::move(relay->dial);
  OwnedFd upstream;
  DialStep failed = kNoStep;
  const int status = start_dial(*dial, &upstream, &failed);
  if (status != 0) {
    relay->slot->step = failed;
    close(relay, kRelayError, kUpstream, -status);
    return false;
  }
  relay->note.write(upstream.get(), dial->destination);
  relay->connecting = true;
  relay->open(std::move(relay->ends[kClient].fd), std::move(upstream), kBothFresh);
  return true;
}

// One that has not come as far as to be watched took no time; one that was dialled by another
// thread in this very round began before it.
uint64_t RelayThread::began_us(const Relay& relay) const {
  return relay.began_us == 0 ? now_us_ : std::min(relay.began_us, now_us_);
}

// Returns false when the relay has closed.
bool RelayThread::watch(Relay* relay) {
  relay->began = now_;
  relay->began_us = began_us(*relay);
  relay->last_activity = now_;
  for (RelayEndpoint& end : relay->ends) {
    end.for_room = relay->connecting && end.side == kUpstream;
    if (!watch(&end, end.watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD)) return false;
  }
  return arm(relay);
}

// Returns false when the relay has closed.
bool RelayThread::watch(RelayEndpoint* end, int operation) {
  const uint32_t events = kEvents | (end->for_room ? EPOLLOUT : 0U);
  const int status = watch(operation, end->fd.get(), end, events);
  if (status == 0) return true;
  close(end->relay, kRelayError, end->side, -status);
  return false;
}

// From its first full buffer on. Returns false when the relay has closed.
bool RelayThread::watch_for_room(RelayEndpoint* end) {
  if (end->for_room) return true;
  end->for_room = true;
  // If there is room by now, that is an event too.
  return watch(end, EPOLL_CTL_MOD);
}

// For a further hop. Returns false when the relay has closed.
bool RelayThread::watch_upstream(Relay* relay) {
  relay->last_activity = now_;
  RelayEndpoint* const end = &relay->ends[kUpstream];
  end->for_room = true;
  return watch(end, EPOLL_CTL_ADD) && arm(relay);
}

// Returns false while it is still connecting, and when the relay has closed.
bool RelayThread::has_connected(Relay* relay) {
  for (RelayEndpoint& end : relay->ends) {
    if (!end.broken) continue;
    const int error = take_error(end.fd.get());
    if (error == 0) continue;
    if (end.side == kUpstream) {
      if (relay->onward != nullptr) {
        fail_hop(relay, kConnect, error);
      } else {
        fail_dial(relay, error);
      }
    } else {
      fail(relay, end.side, error);
    }
    return false;
  }
  if (!relay->ends[kUpstream].writable) return false;
  relay->connecting = false;
  relay->owes_ack = true;
  relay->last_activity = now_;
  if (relay->onward != nullptr) {
    relay->onward->connected();
  } else {
    relay->dial_us = static_cast<int64_t>(now_us_ - relay->began_us);
  }
  return arm(relay);
}

// Returns false when the relay has closed.
bool RelayThread::serve_flow(Relay* relay, RelaySide side) {
  Flow& flow = relay->flows[side];
  if (flow.done()) return true;
  switch (flow.pump(tools_, relay->flows[other(side)].done())) {
    case Flow::State::kWaiting:
      return !flow.blocked() || watch_for_room(&relay->ends[other(side)]);
    case Flow::State::kMore:
      busy_.add(relay);
      return true;
    case Flow::State::kDone:
      relay->last_activity = now_;
      return arm(relay);
    case Flow::State::kFailed:
      fail(relay, flow.failed_sink() ? other(side) : side, flow.error());
      return false;
  }
  return true;
}

void RelayThread::serve(Relay* relay) {
  if (relay->connecting && !has_connected(relay)) return;
  if (relay->onward != nullptr && !converse(relay)) return;
  const uint64_t before = relay->flows[0].moved() + relay->flows[1].moved();
  const bool open = serve_flow(relay, kClient) && serve_flow(relay, kUpstream);
  if (!open) return;
  if (relay->owes_ack) see_to_ack(relay);
  if (relay->flows[0].moved() + relay->flows[1].moved() != before) {
    relay->last_activity = now_;
    publish(relay);
  }
  if (relay->flows[0].done() && relay->flows[1].done()) {
    return close(relay, kRelayEnd, kNeither, 0);
  }
  if (busy_.has(relay)) return;
  // A broken socket that nobody reads from at the moment (its stream has ended, or the other side
  // is slow) would otherwise go unnoticed.
  for (RelayEndpoint& end : relay->ends) {
    if (!end.broken) continue;
    end.broken = false;
    const int error = take_error(end.fd.get());
    if (error != 0) return fail(relay, end.side, error);
  }
}

void RelayThread::expire() {
  for (Timed* first = timers_.first(); first != nullptr && first->due <= now_;
       first = timers_.first()) {
    Relay* const relay = static_cast<Relay*>(first);
    timers_.disarm(relay);
    if (relay->probe_at() <= now_) relay->probe();
    if (relay->deadline() > now_) {
      arm(relay);
    } else if (relay->onward != nullptr) {
      const bool connecting = relay->connecting;
      fail_hop(relay, connecting ? kConnect : kHandshake, connecting ? ETIMEDOUT : kTooLate);
    } else if (relay->connecting) {
      fail_dial(relay, ETIMEDOUT);
    } else {
      close(relay, kRelayIdle, kNeither, 0);
    }
  }
}

// Sees to it that the timer comes early enough; one that comes too early is found out then. Returns
// false when the relay has closed.
bool RelayThread::arm(Relay* relay) {
  const uint64_t due = std::min(relay->deadline(), relay->probe_at());
  if (due == UINT64_MAX || (relay->timer_index != 0 && relay->due <= due)) return true;
  if (timers_.arm(relay, due) == 0) return true;
  close(relay, kRelayError, kNeither, ENOMEM);
  return false;
}

void RelayThread::fail_dial(Relay* relay, int error) {
  if (relay->listener != nullptr) add_to(&relay->listener->stats->failed, 1);
  if (relay->slot != nullptr) relay->slot->step = kConnect;
  fail(relay, kUpstream, error);
}

void RelayThread::fail(Relay* relay, RelaySide side, int error) {
  const bool reset = error == ECONNRESET || error == EPIPE;
  close(relay, reset ? kRelayReset : kRelayError, side, error);
}

void RelayThread::close(Relay* relay, RelayReason reason, RelaySide side, int error) {
  busy_.remove(relay);
  timers_.disarm(relay);
  owing_.remove(relay);
  publish(relay);
  // An end whose stream was cut must not take it for a whole one, so it gets RST, not FIN.
  const bool broken = reason == kRelayReset || reason == kRelayError;
  for (RelayEndpoint& end : relay->ends) {
    const RelayEndpoint& source = relay->ends[other(end.side)];
    const Flow& flow = relay->flows[source.side];
    if (broken || flow.bytes_underway() || (!flow.done() && has_unread(source.fd.get()))) {
      reset_on_close(end.fd.get());
    }
    // Where our descriptor is not the last one of the socket, epoll would go on to wake us.
    if (!end.fresh) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end.fd.get(), nullptr);
    watched_.leave(&end);
  }
  for (Flow& flow : relay->flows) flow.release(tools_);
  // Not after another end: what is still on its way to us has to be recognised when it arrives.
  if (reason == kRelayEnd) relay->note.forget();
  relay->admission.release();
  // Counted before its sockets close: whoever sees the end finds it in the numbers.
  if (relay->listener != nullptr) {
    record_end(relay, reason, side, error);
    return forget(relay);
  }
  for (RelayEndpoint& end : relay->ends) end.fd.reset();
  if (find(relay->id) == relay) table_[relay->id] = nullptr;
  relay->slot->reason = reason;
  relay->slot->side = side;
  relay->slot->error = -error;
  relay->slot->dial_ms = relay->dial_us < 0 ? -1 : static_cast<float>(relay->dial_us) / 1000;
  relay->slot->duration_ms = static_cast<float>(now_us_ - began_us(*relay)) / 1000;

  relay->next = nullptr;
  const Locked locked(&mutex_);
  *closed_tail_ = relay;
  closed_tail_ = &relay->next;
  // Of what has simply ended the other thread hears along with other news, or a little later:
  // waking it for that alone is a dozen system calls of the two.
  if (reason == kRelayEnd) {
    tell_at_ = std::min(tell_at_, now_ + kTellEndsAfterMs);
  } else {
    news_ = true;
  }
}

void RelayThread::publish(Relay* relay) {
  const uint64_t moved[2] = {relay->flows[kClient].moved(), relay->flows[kUpstream].moved()};
  if (relay->slot != nullptr) {
    set_counter(&relay->slot->to_upstream, static_cast<double>(moved[kClient]));
    set_counter(&relay->slot->to_client, static_cast<double>(moved[kUpstream]));
  }
  if (relay->listener == nullptr) return;
  ListenerStats* const stats = relay->listener->stats;
  add_to(&stats->to_upstream, static_cast<double>(moved[kClient] - relay->published[kClient]));
  add_to(&stats->to_client, static_cast<double>(moved[kUpstream] - relay->published[kUpstream]));
  for (const RelaySide side : {kClient, kUpstream}) relay->published[side] = moved[side];
}

}  // namespace original_dst
