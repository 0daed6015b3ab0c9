// The part of a relay thread that goes another way to an upstream: hop after hop, and what is said
// there ahead of the client's bytes.
#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "relay/counter.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// An answer has some ten bytes, or a few lines. What the destination has said behind it is held in
// memory, and is to stay in the kernel as far as it can.
constexpr size_t kAnswerAtOnce = 2048;

}  // namespace

// connect(2) to the first hop from here on that it can be called for. Returns false when the relay
// has closed.
bool RelayThread::dial_hop(Relay* relay) {
  Onward* const onward = relay->onward.get();
  for (;;) {
    OwnedFd upstream;
    DialStep failed = kNoStep;
    const int status = onward->dial(&upstream, &failed);
    if (status == 0) {
      relay->note.write(upstream.get(), onward->destination());
      relay->connecting = true;
      relay->redial(std::move(upstream));
      return true;
    }
    if (!onward->has_next(failed, -status)) {
      fail_route(relay);
      return false;
    }
  }
}

// On to the next, if there is one.
void RelayThread::fail_hop(Relay* relay, DialStep step, int error) {
  // What is still to be reported of this socket is not about the next one.
  watched_.leave(&relay->ends[kUpstream]);
  if (!relay->onward->has_next(step, error)) return fail_route(relay);
  if (dial_hop(relay)) watch_upstream(relay);
}

// None is left, and the last one's error is that of the relay.
void RelayThread::fail_route(Relay* relay) {
  const HopFailure& last = relay->onward->failures.back();
  if (relay->listener != nullptr) add_to(&relay->listener->stats->failed, 1);
  if (relay->slot != nullptr) relay->slot->step = static_cast<uint8_t>(last.step);
  close(relay, kRelayError, kUpstream, last.error);
}

// What the upstream is told ahead of the client's bytes. Returns false while that is not over, and
// when the relay has closed.
bool RelayThread::converse(Relay* relay) {
  RelayEndpoint& client = relay->ends[kClient];
  if (client.broken) {
    client.broken = false;
    const int error = take_error(client.fd.get());
    if (error != 0) {
      fail(relay, kClient, error);
      return false;
    }
  }
  for (;;) {
    switch (relay->onward->step()) {
      case Onward::Step::kSend:
        if (!say(relay)) return false;
        break;
      case Onward::Step::kListen:
        if (!hear(relay)) return false;
        break;
      case Onward::Step::kDone:
        relay->onward.reset();
        relay->dial_us = static_cast<int64_t>(now_us_ - relay->began_us);
        relay->last_activity = now_;
        return arm(relay);
    }
  }
}

// Returns false while it cannot be sent, and when the hop has failed.
bool RelayThread::say(Relay* relay) {
  Onward* const onward = relay->onward.get();
  Flow& flow = relay->flows[kClient];
  const bool header = onward->is_header();
  // What the client has said already follows at once, in the header's own segment.
  const bool more = header && flow.readable();
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
  const ssize_t sent =
      send(relay->ends[kUpstream].fd.get(), onward->bytes(), onward->left(), flags);
  if (sent >= 0) {
    onward->sent(static_cast<size_t>(sent));
    if (header && !more) flow.has_spoken();
    return true;
  }
  if (errno == EINTR) return true;
  // Its event brings us back.
  if (errno != EAGAIN) fail_hop(relay, kTalk, errno);
  return false;
}

// Returns false while the answer is not whole, and when the hop has failed.
bool RelayThread::hear(Relay* relay) {
  Onward* const onward = relay->onward.get();
  Flow& flow = relay->flows[kUpstream];
  if (!flow.readable()) return false;
  const ssize_t got =
      recv(relay->ends[kUpstream].fd.get(), tools_.scratch, kAnswerAtOnce, MSG_DONTWAIT);
  if (got == 0) {
    fail_hop(relay, kHandshake, kCutOff);
    return false;
  }
  if (got < 0) {
    if (errno == EINTR) return true;
    flow.source_drained();
    if (errno != EAGAIN) fail_hop(relay, kTalk, errno);
    return false;
  }
  const auto size = static_cast<size_t>(got);
  if (size < kAnswerAtOnce) flow.source_read_short();
  size_t taken = 0;
  switch (onward->take(tools_.scratch, size, &taken)) {
    case Handshake::Heard::kMore:
    case Handshake::Heard::kAsk:
      return true;
    case Handshake::Heard::kConnected:
      if (flow.hold(tools_.scratch + taken, size - taken) == 0) return true;
      fail(relay, kUpstream, ENOMEM);
      return false;
    case Handshake::Heard::kFailed:
      fail_hop(relay, kHandshake, onward->failure());
      return false;
  }
  return false;
}

}  // namespace original_dst
