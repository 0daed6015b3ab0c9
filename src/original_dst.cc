#include "original_dst.h"

#include <netinet/in.h>

// After <netinet/in.h>: the kernel header does not compile on its own.
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

#include "owned_fd.h"

namespace original_dst {

namespace {

using NameCall = int (*)(int, sockaddr*, socklen_t*);

int read_name(NameCall call, int fd, Endpoint* endpoint) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return -errno;
  return endpoint_from_sockaddr(address, endpoint);
}

}  // namespace

int original_dst(int fd, const Endpoint& local, Endpoint* original) {
  // Chosen by the address, not by the socket's family: an AF_INET6 listener accepts IPv4 too, and
  // then only SOL_IP answers. Trying both is no way out: for a real IPv6 socket SOL_IP looks up
  // 127.0.0.6 with the connection's ports and may find a stranger's entry.
  const bool v4 = local.family == 4;
  // Zeroed, and the family checked below: the kernel reports back the length it was given, whatever
  // it wrote.
  sockaddr_storage address = {};
  socklen_t length = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  static_assert(SO_ORIGINAL_DST == IP6T_SO_ORIGINAL_DST, "one number at both levels");
  if (getsockopt(fd, v4 ? SOL_IP : SOL_IPV6, SO_ORIGINAL_DST, &address, &length) != 0) {
    return -errno;
  }
  return endpoint_from_sockaddr(address, original);
}

int local_endpoint(int fd, Endpoint* local) { return read_name(getsockname, fd, local); }

int peer_endpoint(int fd, Endpoint* peer) {
  const int status = read_name(getpeername, fd, peer);
  if (status != -ENOTCONN) return status;
  // A client that has sent RST before accept(2): getpeername(2) refuses a closed socket,
  // SO_PEERNAME does not. Without the peer a reversed entry could not be told from a redirected
  // connection.
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &address, &length) != 0) return status;
  return endpoint_from_sockaddr(address, peer);
}

int read_facts(int fd, Facts* facts) {
  *facts = {};
  const int status = local_endpoint(fd, &facts->local);
  if (status != 0) return status;
  facts->original_status = original_dst(fd, facts->local, &facts->original);
  facts->peer_status = peer_endpoint(fd, &facts->peer);
  return 0;
}

int conntrack_active(int family) {
  const int domain = family == 4 ? AF_INET : AF_INET6;
  Endpoint loopback = {};
  endpoint_parse(family == 4 ? "127.0.0.1" : "::1", 0, &loopback);
  sockaddr_storage address;
  socklen_t length = endpoint_to_sockaddr(loopback, false, &address);
  sockaddr* name = reinterpret_cast<sockaddr*>(&address);

  const OwnedFd listener(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const OwnedFd client(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid() || !client.valid()) return -errno;
  if (bind(listener.get(), name, length) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), name, &length) != 0) {
    return -errno;
  }
  // The SYN crosses the loopback device, and conntrack, before a non-blocking connect(2) returns;
  // the handshake need not finish.
  if (connect(client.get(), name, length) != 0 && errno != EINPROGRESS) return -errno;
  Endpoint local = {};
  Endpoint original = {};
  const int named = local_endpoint(client.get(), &local);
  if (named != 0) return named;
  const int status = original_dst(client.get(), local, &original);
  if (status == 0) return 1;
  return status == -ENOENT ? 0 : status;
}

}  // namespace original_dst
