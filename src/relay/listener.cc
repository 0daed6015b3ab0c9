#include "relay/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "relay/counter.h"
#include "socket/socket_options.h"

namespace original_dst {

Dial DialPlan::dial(const Endpoint& destination, const Endpoint& client) const {
  Dial dial = {};
  dial.destination = destination;
  dial.options.family = destination.family;
  dial.options.marked = marked;
  dial.options.mark = mark;
  if (source != kOwn) {
    dial.options.transparent = true;
    dial.options.source = client;
    if (source == kClientAddress) dial.options.source.port = 0;
  }
  dial.options.sockets = sockets;
  dial.port_fallback = port_fallback;
  return dial;
}

RelayListener::Accepted RelayListener::accept_one(OwnedFd* accepted, Facts* facts) {
  sockaddr_storage peer = {};
  socklen_t length = sizeof(peer);
  accepted->reset(
      accept4(fd.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (accepted->valid()) {
    *facts = {};
    facts->peer_status = endpoint_from_sockaddr(peer, &facts->peer);
    add_to(&stats->accepted, 1);
    return Accepted::kOne;
  }
  switch (errno) {
    case EAGAIN:
      return Accepted::kNone;
    case ECONNABORTED:
    case EINTR:
      return Accepted::kNotThisOne;
    case EMFILE:
    case ENFILE:
      return refuse_one(facts);
    default:
      return Accepted::kCannot;
  }
}

// A connection that is never accepted would keep the listener readable and this thread busy, and
// its client would wait for ever.
RelayListener::Accepted RelayListener::refuse_one(Facts* facts) {
  if (!spare.valid()) return Accepted::kCannot;
  spare.reset();
  sockaddr_storage peer = {};
  socklen_t length = sizeof(peer);
  OwnedFd refused(accept4(fd.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC));
  if (!refused.valid()) {
    const bool none = errno == EAGAIN;
    return take_spare() && none ? Accepted::kNone : Accepted::kCannot;
  }
  *facts = {};
  facts->peer_status = endpoint_from_sockaddr(peer, &facts->peer);
  add_to(&stats->accepted, 1);
  add_to(&stats->failed, 1);
  reset_on_close(refused.get());
  // In one piece: a number that is free for a moment is another thread's the next.
  dup3(fd.get(), refused.get(), O_CLOEXEC);
  spare = std::move(refused);
  return Accepted::kRefused;
}

bool RelayListener::take_spare() {
  if (!spare.valid()) spare.reset(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  return spare.valid();
}

Origin RelayListener::origin(int accepted, const Facts& facts, const Endpoint& destination,
                             Path* path) const {
  if (plan.dials == nullptr) return kElsewhere;
  return origin_of(accepted, facts, destination, port, *plan.dials, path);
}

bool RelayListener::destination(int accepted, Facts* facts, Endpoint* found) const {
  if (aliases != nullptr && aliases->any()) aliases->read_connection(accepted, facts);
  return find_destination(accepted, port, facts, found);
}

Handled RelayListener::handle(int accepted, const Endpoint& destination, const Wanted& wanted,
                              uint64_t now_ms, const Facts& facts, const Seen* seen) {
  Handled handled;
  const Verdict verdict =
      group->verdicts.find(destination, wanted, now_ms, &handled.tproxy, &handled.route);
  if (verdict == kUndecided) return handled;
  Path path = 0;
  if (verdict == kRelayIt) {
    const Origin from = origin(accepted, facts, destination, &path);
    if (from == kLoop || from == kOwnDial) return handled;
  }
  double* const captured = facts.capture_status > 0 ? &stats->ebpf : &stats->redirect;
  double* const direct = handled.tproxy ? &stats->tproxy : captured;
  add_to(is_proxied(seen) ? &stats->proxied : direct, 1);
  handled.verdict = verdict;
  if (verdict == kResetIt) {
    add_to(&stats->reset, 1);
    return handled;
  }

  handled.note = plan.note(path);
  if (handled.route) {
    add_to(&stats->relayed, 1);
    return handled;
  }
  DialStep failed = kNoStep;
  const int status =
      start_dial(plan.dial(destination, client_of(facts, seen)), &handled.upstream, &failed);
  if (status != 0) {
    add_to(&stats->failed, 1);
    handled.verdict = kResetIt;
    handled.error = -status;
    return handled;
  }
  handled.note.write(handled.upstream.get(), destination);
  add_to(&stats->relayed, 1);
  return handled;
}

News* RelayListener::undecided(OwnedFd accepted, const Facts& facts, Admission admission) {
  add_to(&stats->undecided, 1);
  auto* const one = new News;
  one->facts = facts;
  if (facts.capture_status == 0 && facts.peer_status != 0) {
    one->status = read_facts(accepted.get(), &one->facts);
  } else if (facts.local.family == 0) {
    one->status = local_endpoint(accepted.get(), &one->facts.local);
  }
  one->fd = std::move(accepted);
  one->admission = std::move(admission);
  one->plan = plan;
  one->limits = limits;
  one->thread = thread;
  one->listener = this;
  return one;
}

}  // namespace original_dst
