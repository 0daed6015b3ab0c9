#include "socket/certain_destination.h"

#include <errno.h>

namespace original_dst {

bool certain_destination(const Facts& facts, uint16_t listener_port, Endpoint* destination) {
  // An MPTCP socket: conntrack knows, and TypeScript has another way to ask it.
  if (facts.original_status == -EOPNOTSUPP) return false;
  const bool elsewhere = facts.local.port != listener_port;
  const bool rewritten = facts.original_status == 0 && !same_address(facts.original, facts.local);
  if (!rewritten) {
    *destination = facts.local;
    return elsewhere;
  }
  if (facts.peer_status != 0) return false;
  if (same_address(facts.original, facts.peer)) {
    *destination = facts.local;
    return elsewhere;
  }
  if (facts.entry_status != 0) return false;
  *destination = facts.original;
  return true;
}

bool find_destination(int fd, uint16_t listener_port, Facts* facts, Endpoint* destination) {
  if (facts->peer_status != 0) return false;
  facts->original_status = original_dst_of(fd, facts->peer, &facts->original);
  if (facts->original_status == 0) {
    facts->entry_status = check_entry(fd, &facts->peer);
    // Without the local address: whatever that is, the connection was going to where its own entry
    // says, if that is neither a port of the listener's (which may be a plain connection to it) nor
    // the peer (which is a reversed entry). Under TPROXY the two are the same.
    if (facts->entry_status == 0 && facts->original.port != listener_port &&
        !same_address(facts->original, facts->peer)) {
      *destination = facts->original;
      return true;
    }
  }
  return local_endpoint(fd, &facts->local) == 0 &&
         certain_destination(*facts, listener_port, destination);
}

}  // namespace original_dst
