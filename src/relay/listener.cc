#include "relay/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

namespace original_dst {

void add_to(double* counter, double amount) {
  // One thread writes; another may read at any time.
  const double sum = *counter + amount;
  uint64_t bits;
  memcpy(&bits, &sum, sizeof(bits));
  __atomic_store_n(reinterpret_cast<uint64_t*>(counter), bits, __ATOMIC_RELAXED);
}

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
  dial.port_fallback = port_fallback;
  return dial;
}

bool RelayListener::accept_one(OwnedFd* accepted, Facts* facts) {
  sockaddr_storage peer = {};
  socklen_t length = sizeof(peer);
  accepted->reset(
      accept4(fd.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (accepted->valid()) {
    *facts = {};
    facts->peer_status = endpoint_from_sockaddr(peer, &facts->peer);
    add_to(&stats->accepted, 1);
    return true;
  }
  // Gone before it was accepted: the next one may be there.
  if (errno == ECONNABORTED || errno == EINTR) return true;
  if (errno != EMFILE && errno != ENFILE) return false;
  // A connection that is never accepted would keep the listener readable, and this thread busy.
  spare.reset();
  const OwnedFd refused(accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const bool any = refused.valid();
  if (any) add_to(&stats->failed, 1);
  return any;
}

Verdict RelayListener::handle(int accepted, uint64_t now_ms, Facts* facts, OwnedFd* upstream) {
  Endpoint destination;
  if (!find_destination(accepted, port, facts, &destination)) return kUndecided;
  const Verdict verdict = verdicts.find(destination, now_ms);
  if (verdict == kResetIt) add_to(&stats->reset, 1);
  if (verdict != kRelayIt) return verdict;

  DialStep failed = kNoStep;
  if (start_dial(plan.dial(destination, facts->peer), upstream, &failed) != 0) {
    add_to(&stats->failed, 1);
    return kResetIt;
  }
  add_to(&stats->relayed, 1);
  return kRelayIt;
}

Undecided* RelayListener::undecided(OwnedFd accepted, const Facts& facts) {
  add_to(&stats->undecided, 1);
  auto* const one = new Undecided;
  one->facts = facts;
  if (facts.peer_status != 0) {
    one->status = read_facts(accepted.get(), &one->facts);
  } else if (facts.local.family == 0) {
    one->status = local_endpoint(accepted.get(), &one->facts.local);
  }
  one->fd = std::move(accepted);
  one->plan = plan;
  one->limits = limits;
  one->listener = this;
  return one;
}

}  // namespace original_dst
