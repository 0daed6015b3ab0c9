// What the kernel knows about where an accepted TCP connection was going.
#ifndef ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_
#define ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_

#include "socket/endpoint.h"

namespace original_dst {

// getsockopt(fd, SOL_IP, SO_ORIGINAL_DST) or getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST),
// whichever fits the connection. Returns 0 or -errno: -ENOENT no conntrack entry, -ENOPROTOOPT no
// conntrack (or no TCP), -ENOTSUP MPTCP. One thing can deceive it, a rule that rewrites
// destinations to 127.0.0.6 itself: an IPv6 connection may then be answered with the entry of an
// IPv4 one from 127.0.0.6 with the same two ports. original_dst_of() has no such case.
int original_dst(int fd, Endpoint* original);

// The same, chosen by the form of one of the connection's two addresses, which is also the other's.
int original_dst_of(int fd, const Endpoint& own, Endpoint* original);

// getsockname(2) and getpeername(2), or SO_PEERNAME once the client has gone, in canonical form.
// Return 0 or -errno.
int local_endpoint(int fd, Endpoint* local);
int peer_endpoint(int fd, Endpoint* peer);

// Everything that recovery decides from, in one visit to the kernel.
struct Facts {
  Endpoint original;
  Endpoint local;
  Endpoint peer;
  int32_t original_status;  // 0 or -errno, as original_dst_of()
  int32_t peer_status;      // 0 or -errno
};
static_assert(sizeof(Facts) == 80, "lib/binding.ts knows this layout");

// Returns 0, or the -errno of getsockname(2): without a local address there is nothing to decide
// from.
int read_facts(int fd, Facts* facts);

// Is conntrack at work in this network namespace, for family 4 or 6? Asks SO_ORIGINAL_DST of a
// loopback connection to a listener of our own, then the number of entries. 1 yes, 0 no, or -errno
// when the probe could not be made. Nothing cheaper tells: the files under /proc are there whenever
// the module is loaded, hooked or not, and the number of entries alone is 0 after a flush.
// Blind spot: rules that exempt the loopback device from conntrack, while no other connection has
// an entry.
int conntrack_active(int family);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_
