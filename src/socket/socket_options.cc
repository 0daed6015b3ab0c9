#include "socket/socket_options.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

namespace original_dst {

namespace {

int set_int(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

int get_int(int fd, int level, int option, int* value) {
  socklen_t length = sizeof(*value);
  return getsockopt(fd, level, option, value, &length) == 0 ? 0 : -errno;
}

// IPv4 and IPv6 have twins of the same option; the IPv6 one is refused on an AF_INET socket.
struct Twin {
  int v4;
  int v6;
};
constexpr Twin kTransparent = {IP_TRANSPARENT, IPV6_TRANSPARENT};
constexpr Twin kFreebind = {IP_FREEBIND, IPV6_FREEBIND};

int domain_of(int fd, int* domain) { return get_int(fd, SOL_SOCKET, SO_DOMAIN, domain); }

int set_twin(int fd, Twin option, bool on) {
  int domain = 0;
  const int status = domain_of(fd, &domain);
  if (status != 0) return status;
  if (domain == AF_INET6) return set_int(fd, SOL_IPV6, option.v6, on);
  return set_int(fd, SOL_IP, option.v4, on);
}

}  // namespace

int set_transparent(int fd, bool on) { return set_twin(fd, kTransparent, on); }

int get_transparent(int fd, bool* on) {
  int domain = 0;
  int value = 0;
  int status = domain_of(fd, &domain);
  if (status != 0) return status;
  status = domain == AF_INET6 ? get_int(fd, SOL_IPV6, kTransparent.v6, &value)
                              : get_int(fd, SOL_IP, kTransparent.v4, &value);
  *on = value != 0;
  return status;
}

int set_freebind(int fd, bool on) { return set_twin(fd, kFreebind, on); }

int set_mark(int fd, uint32_t mark) {
  return set_int(fd, SOL_SOCKET, SO_MARK, static_cast<int>(mark));
}

int set_bind_address_no_port(int fd, bool on) {
  return set_int(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, on);
}

int reset_on_close(int fd) {
  const linger abort = {1, 0};
  return setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)) == 0 ? 0 : -errno;
}

int set_keepalive(int fd, uint32_t dead_after_ms) {
  // Silence for half of the time, then up to four probes in the other half.
  const int half = static_cast<int>(std::max(dead_after_ms / 2 / 1000, 1U));
  const int interval = std::max(half / 4, 1);
  int status = set_int(fd, SOL_TCP, TCP_KEEPIDLE, half);
  if (status == 0) status = set_int(fd, SOL_TCP, TCP_KEEPINTVL, interval);
  if (status == 0) status = set_int(fd, SOL_TCP, TCP_KEEPCNT, half / interval);
  return status == 0 ? set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1) : status;
}

int set_urgent_inline(int fd, bool on) { return set_int(fd, SOL_SOCKET, SO_OOBINLINE, on); }

int set_quick_ack(int fd, bool on) { return set_int(fd, SOL_TCP, TCP_QUICKACK, on); }

int set_low_water(int fd, uint32_t bytes) {
  return set_int(fd, SOL_SOCKET, SO_RCVLOWAT, static_cast<int>(bytes));
}

int take_error(int fd) {
  int error = 0;
  get_int(fd, SOL_SOCKET, SO_ERROR, &error);
  return error;
}

bool at_urgent_mark(int fd) {
  int at = 0;
  return ioctl(fd, SIOCATMARK, &at) == 0 && at != 0;
}

bool has_unread(int fd) {
  int count = 0;
  return ioctl(fd, FIONREAD, &count) == 0 && count > 0;
}

int socket_drops(int fd, uint32_t* drops) {
  uint32_t counters[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof(counters);
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, counters, &length) != 0) return -errno;
  *drops = counters[SK_MEMINFO_DROPS];
  return 0;
}

int arrival_interface(int fd, uint16_t family) {
  const bool v4 = family == 4;
  const int level = v4 ? SOL_IP : SOL_IPV6;
  // Kept since the handshake, and told to those who would be told of a datagram's.
  const int told = v4 ? IP_PKTINFO : IPV6_RECVPKTINFO;
  int status = set_int(fd, level, told, 1);
  if (status != 0) return status;
  alignas(cmsghdr) char control[256];
  socklen_t length = sizeof(control);
  const int option = v4 ? IP_PKTOPTIONS : IPV6_2292PKTOPTIONS;
  status = getsockopt(fd, level, option, control, &length) == 0 ? 0 : -errno;
  set_int(fd, level, told, 0);
  if (status != 0) return status;
  msghdr message = {};
  message.msg_control = control;
  message.msg_controllen = length;
  const cmsghdr* const first = CMSG_FIRSTHDR(&message);
  if (first == nullptr || first->cmsg_level != level) return -ENOENT;
  if (v4) return reinterpret_cast<const in_pktinfo*>(CMSG_DATA(first))->ipi_ifindex;
  return static_cast<int>(reinterpret_cast<const in6_pktinfo*>(CMSG_DATA(first))->ipi6_ifindex);
}

int socket_kind(int fd, SocketKind* kind) {
  int status = domain_of(fd, &kind->domain);
  if (status == 0) status = get_int(fd, SOL_SOCKET, SO_TYPE, &kind->type);
  if (status == 0) status = get_int(fd, SOL_SOCKET, SO_PROTOCOL, &kind->protocol);
  return status;
}

}  // namespace original_dst
