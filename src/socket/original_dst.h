// What the kernel knows about where an accepted TCP connection was going.
#ifndef ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_
#define ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_

#include "socket/endpoint.h"

namespace original_dst {

// getsockopt(fd, SOL_IP, SO_ORIGINAL_DST) or getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST),
// whichever fits the connection; `v6_first`: which is asked first, and should be the next time, as
// most connections are like the one before. Returns 0 or -errno: -ENOENT no conntrack entry,
// -ENOPROTOOPT no conntrack (or no TCP), -ENOTSUP MPTCP. One thing can deceive it, a rule that
// rewrites destinations to 127.0.0.6 itself: an IPv6 connection may then be answered with the entry
// of an IPv4 one from 127.0.0.6 with the same two ports. original_dst_of() has no such case.
int original_dst(int fd, bool* v6_first, Endpoint* original);

// The same, chosen by the form of one of the connection's two addresses, which is also the other's.
int original_dst_of(int fd, const Endpoint& own, Endpoint* original);

// getsockname(2) and getpeername(2), in canonical form. Return 0 or -errno; peer_endpoint():
// -ENOTCONN once the connection has been reset or has failed.
int local_endpoint(int fd, Endpoint* local);
int peer_endpoint(int fd, Endpoint* peer);

// Is the entry that original_dst_of() has found this connection's own? To be asked after it, never
// before. Conntrack finds an entry by the socket's addresses, whoever's packets have made it: when
// a connection's own entry is lost (flushed, dropped early, timed out), the next packet that
// another connection of the client sends from the same port is rewritten to the same two addresses,
// and its entry answers for this socket. Returns 0; -ENOTCONN: the socket is closed, so that its
// addresses are free for another; -EADDRINUSE: it has thrown away segments, which may have been
// another connection's; or another -errno: not known. With 0, `*peer` is getpeername(2)'s answer.
//
// 0 does not lie: as long as the socket is connected, every packet that is rewritten to its
// addresses comes to it, and one of a stranger's, SYN or not, is outside its window and thrown
// away. A packet that has passed conntrack and not yet TCP would have to stay between the two for
// longer than the way out of one system call and into the next.
int check_entry(int fd, Endpoint* peer);

// The same of an MPTCP socket, whose TCP connections (subflows) are sockets of their own: it stays
// connected when the first of them, the one with its addresses, is over, and counts none of their
// segments. `netlink`: a socket of NETLINK_SOCK_DIAG in its namespace; the addresses are its own.
// 0: the first subflow still has them, and has had since the handshake. Not by MPTCP_TCPINFO, which
// counts no discarded segment.
int check_mptcp_entry(int fd, int netlink, const Endpoint& local, const Endpoint& peer);

// Everything that recovery decides from, in one visit to the kernel.
struct Facts {
  Endpoint original;
  Endpoint local;
  Endpoint peer;
  Endpoint captured;        // where capture_status is 1
  int32_t original_status;  // 0 or -errno, as original_dst_of()
  int32_t peer_status;      // 0 or -errno, as peer_endpoint()
  int32_t entry_status;     // 0 or -errno, as check_entry(); 0 where there is no entry
  int32_t capture_status;   // 0: no eBPF capture is concerned, 1: `captured` says where, or -errno
};
static_assert(sizeof(Facts) == 112, "lib/recover/kernel-answer.ts knows this layout");

// Returns 0, or the -errno of getsockname(2): without a local address there is nothing to decide
// from.
int read_facts(int fd, Facts* facts);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_ORIGINAL_DST_H_
