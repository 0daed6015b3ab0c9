#include "relay_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

#include "dial.h"

namespace original_dst {

void add_to(double* counter, double amount) {
  // One thread writes; another may read at any time.
  const double sum = *counter + amount;
  uint64_t bits;
  memcpy(&bits, &sum, sizeof(bits));
  __atomic_store_n(reinterpret_cast<uint64_t*>(counter), bits, __ATOMIC_RELAXED);
}

bool RelayListener::accept_one(OwnedFd* accepted) {
  accepted->reset(accept4(fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (accepted->valid()) {
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

Verdict RelayListener::handle(int accepted, uint64_t now_ms, OwnedFd* upstream) {
  Facts facts;
  Endpoint destination;
  if (read_facts(accepted, &facts) != 0 || !certain_destination(facts, port, &destination)) {
    return kUndecided;
  }
  const Verdict verdict = verdicts.find(destination, now_ms);
  if (verdict == kResetIt) add_to(&stats->reset, 1);
  if (verdict != kRelayIt) return verdict;

  DialOptions options = {};
  options.family = destination.family;
  options.marked = marked;
  options.mark = mark;
  const char* failed = "";
  sockaddr_storage address;
  const socklen_t length = endpoint_to_sockaddr(destination, false, &address);
  if (open_dial_socket(options, upstream, &failed) != 0 ||
      (connect(upstream->get(), reinterpret_cast<sockaddr*>(&address), length) != 0 &&
       errno != EINPROGRESS)) {
    add_to(&stats->failed, 1);
    return kResetIt;
  }
  add_to(&stats->relayed, 1);
  return kRelayIt;
}

}  // namespace original_dst
