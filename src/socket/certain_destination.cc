#include "socket/certain_destination.h"

#include <errno.h>

namespace original_dst {

bool certain_destination(const Facts& facts, uint16_t listener_port, Endpoint* destination) {
  if (facts.capture_status != 0) {
    *destination = facts.captured;
    return facts.capture_status > 0;
  }
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

bool certain_without_local(const Facts& facts, uint16_t listener_port, Endpoint* destination) {
  // An alias is a local address.
  if (facts.capture_status != 0) return false;
  if (facts.original_status != 0 || facts.entry_status != 0 || facts.peer_status != 0) return false;
  if (facts.original.port == listener_port) return false;
  if (same_address(facts.original, facts.peer)) return false;
  *destination = facts.original;
  return true;
}

bool find_destination(int fd, uint16_t listener_port, Facts* facts, Endpoint* destination) {
  if (facts->capture_status != 0) return certain_destination(*facts, listener_port, destination);
  if (facts->peer_status != 0) return false;
  facts->original_status = original_dst_of(fd, facts->peer, &facts->original);
  if (facts->original_status == 0) facts->entry_status = check_entry(fd, &facts->peer);
  if (certain_without_local(*facts, listener_port, destination)) return true;
  return local_endpoint(fd, &facts->local) == 0 &&
         certain_destination(*facts, listener_port, destination);
}

}  // namespace original_dst
