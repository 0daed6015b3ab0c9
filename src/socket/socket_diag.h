// Which sockets are there? The kernel's own tables, by addresses and ports.
#ifndef ORIGINAL_DST_SOCKET_SOCKET_DIAG_H_
#define ORIGINAL_DST_SOCKET_SOCKET_DIAG_H_

#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// INET_DIAG_NOCOOKIE: any socket.
constexpr uint64_t kAnyCookie = UINT64_MAX;

// sock_diag(7) SOCK_DIAG_BY_FAMILY: is there a TCP socket in this thread's network namespace
// between the two addresses, and is it the one with this SO_COOKIE? A closed one counts for as long
// as the kernel keeps it (TIME_WAIT). Returns 1, 0, or -errno when the question could not be put;
// 0 also where the kernel has no tcp_diag module.
int tcp_socket_exists(const Endpoint& local, const Endpoint& remote, uint64_t cookie);

struct DiagSocket {
  uint64_t cookie;
  uint32_t inode;       // 0: no process has it open any more
  uint8_t state;        // TCP_ESTABLISHED and the like
  uint32_t drops = 0;   // TCP: of segments that it had no use for
  bool joined = false;  // TCP: a subflow that came to an MPTCP connection which was there already
};

// The same question over `netlink`, a socket of NETLINK_SOCK_DIAG, in the network namespace of
// that: the socket between the two addresses, or a listener. Returns 0 or -errno; -ENOENT: none.
int find_tcp_socket(int netlink, const Endpoint& local, const Endpoint& remote, DiagSocket* found);

// The UDP socket that may have sent from one address to the other: bound to the first or to any,
// connected to the second or to none. Returns 0 or -errno; -ENOENT: none, -EEXIST: several, which
// share the port (SO_REUSEPORT, SO_REUSEADDR).
int find_udp_socket(int netlink, const Endpoint& local, const Endpoint& remote, DiagSocket* found);

// getsockopt(fd, SOL_SOCKET, SO_COOKIE): a number that no other socket has or will have. Returns 0
// or -errno.
int socket_cookie(int fd, uint64_t* cookie);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_SOCKET_DIAG_H_
