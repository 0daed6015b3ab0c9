// Options and state of a proxy's sockets. Functions return 0 or -errno, unless they say otherwise.
#ifndef ORIGINAL_DST_SOCKET_SOCKET_OPTIONS_H_
#define ORIGINAL_DST_SOCKET_SOCKET_OPTIONS_H_

#include <stdint.h>

namespace original_dst {

// setsockopt(fd, SOL_IP, IP_TRANSPARENT) or (SOL_IPV6, IPV6_TRANSPARENT) by the socket's family.
int set_transparent(int fd, bool on);
int get_transparent(int fd, bool* on);

// setsockopt(fd, SOL_IP, IP_FREEBIND) or (SOL_IPV6, IPV6_FREEBIND).
int set_freebind(int fd, bool on);

// setsockopt(fd, SOL_SOCKET, SO_MARK).
int set_mark(int fd, uint32_t mark);

// setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT); AF_INET6 sockets take it at the same level.
int set_bind_address_no_port(int fd, bool on);

// setsockopt(fd, SOL_SOCKET, SO_LINGER): close(2) sends RST.
int reset_on_close(int fd);

// setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE) and (SOL_TCP, TCP_KEEPIDLE / TCP_KEEPINTVL /
// TCP_KEEPCNT): a peer that has said nothing for so many milliseconds, probes included, is gone,
// and the socket fails with ETIMEDOUT. Not finer than seconds. Refused by sockets that are not TCP.
int set_keepalive(int fd, uint32_t dead_after_ms);

// setsockopt(fd, SOL_SOCKET, SO_OOBINLINE): recv(2) gives urgent data at its place in the stream,
// and never drops it. Accepted sockets inherit it.
int set_urgent_inline(int fd, bool on);

// setsockopt(fd, SOL_TCP, TCP_QUICKACK): acknowledges what has come at once; or leaves that to what
// is sent next, for 40 ms, 200 ms of the handshake. Until the kernel finds otherwise. Refused by
// sockets that are not TCP.
int set_quick_ack(int fd, bool on);

// setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT): with fewer bytes than that, and no end, the socket is
// not readable to poll(2).
int set_low_water(int fd, uint32_t bytes);

// getsockopt(fd, SOL_SOCKET, SO_ERROR): the errno that the socket has met, or 0; forgotten by being
// asked for.
int take_error(int fd);

// ioctl(fd, SIOCATMARK): is the next byte urgent?
bool at_urgent_mark(int fd);

// ioctl(fd, FIONREAD): is there anything to be read?
bool has_unread(int fd);

// getsockopt(fd, SOL_SOCKET, SO_MEMINFO): how many packets the socket has thrown away so far: of
// UDP those for which it had no room (the same counter as SO_RXQ_OVFL's, which stays behind until
// the next datagram arrives), of TCP the segments that it could not use. Returns 0 or -errno.
int socket_drops(int fd, uint32_t* drops);

// getsockopt(fd, SOL_IP, IP_PKTOPTIONS) or (SOL_IPV6, IPV6_2292PKTOPTIONS) by the family (4 or 6)
// of an accepted connection: the index of the interface that it came in by, or -errno.
int arrival_interface(int fd, uint16_t family);

// getsockopt(fd, SOL_SOCKET, SO_DOMAIN / SO_TYPE / SO_PROTOCOL): what kind of socket is it?
struct SocketKind {
  int domain;
  int type;
  int protocol;
};
int socket_kind(int fd, SocketKind* kind);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_SOCKET_OPTIONS_H_
