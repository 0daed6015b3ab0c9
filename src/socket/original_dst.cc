#include "socket/original_dst.h"

#include <netinet/in.h>

// After <netinet/in.h>: the kernel header does not compile on its own.
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socket/owned_fd.h"

namespace original_dst {

namespace {

using NameCall = int (*)(int, sockaddr*, socklen_t*);

int read_name(NameCall call, int fd, Endpoint* endpoint) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return -errno;
  return endpoint_from_sockaddr(address, endpoint);
}

int ask_conntrack(int fd, bool v4, Endpoint* original) {
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

// LOOPBACK4_IPV6: the address that the kernel writes into the IPv4 fields of an IPv6 socket.
constexpr uint8_t kStandIn[4] = {127, 0, 0, 6};

// How long a handshake over the loopback device may take on a machine that is busy.
constexpr int kProbePatienceMs = 20;

// Does conntrack know any connection of this network namespace, in whichever zone?
bool any_entry() {
  const OwnedFd file(open("/proc/sys/net/netfilter/nf_conntrack_count", O_RDONLY | O_CLOEXEC));
  char first = '0';
  return file.valid() && read(file.get(), &first, 1) == 1 && first != '0';
}

}  // namespace

int original_dst(int fd, Endpoint* original) {
  // One system call for the common case, where getsockname(2) for the address' form and then the
  // matching option would be two. IPv4 first, which AF_INET6 sockets that accepted IPv4 answer too.
  int status = ask_conntrack(fd, true, original);
  if (status == -ENOENT) {
    // For IPv4 on an AF_INET6 socket this is ENOENT again: no packet with an IPv4-mapped address
    // gets past ipv6_rcv(). An AF_INET socket does not know the option at all.
    status = ask_conntrack(fd, false, original);
    return status == -ENOTSUP || status == -ENOPROTOOPT ? -ENOENT : status;
  }
  if (status != 0 || memcmp(original->bytes, kStandIn, sizeof(kStandIn)) != 0) return status;
  // A real IPv6 socket has 127.0.0.6 on both sides for SOL_IP, so that this may be the entry of a
  // stranger who really used it.
  Endpoint local = {};
  status = local_endpoint(fd, &local);
  return status == 0 ? original_dst_of(fd, local, original) : status;
}

int original_dst_of(int fd, const Endpoint& own, Endpoint* original) {
  // By the address, not by the socket's family: an AF_INET6 listener accepts IPv4 too, and then
  // only SOL_IP answers.
  return ask_conntrack(fd, own.family == 4, original);
}

int local_endpoint(int fd, Endpoint* local) { return read_name(getsockname, fd, local); }

int peer_endpoint(int fd, Endpoint* peer) {
  const int status = read_name(getpeername, fd, peer);
  if (status != -ENOTCONN) return status;
  // A client that has sent RST before accept(2): getpeername(2) refuses a closed socket,
  // SO_PEERNAME does not. Without the peer a reversed entry could not be told from a redirected
  // connection. Unlike getpeername(2) it refuses room for more than the address: each length of its
  // own.
  const socklen_t lengths[] = {sizeof(sockaddr_in6), sizeof(sockaddr_in)};
  for (socklen_t length : lengths) {
    sockaddr_storage address = {};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &address, &length) == 0) {
      return endpoint_from_sockaddr(address, peer);
    }
  }
  return status;
}

int read_facts(int fd, Facts* facts) {
  *facts = {};
  const int status = local_endpoint(fd, &facts->local);
  if (status != 0) return status;
  facts->original_status = original_dst_of(fd, facts->local, &facts->original);
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
  if (connect(client.get(), name, length) != 0 && errno != EINPROGRESS) return -errno;
  // Entries can be found only once the SYN has arrived. It mostly has by now; not so on a machine
  // whose softirqs are deferred, and "no entry" would then be the wrong answer.
  pollfd connected = {client.get(), POLLOUT, 0};
  if (poll(&connected, 1, kProbePatienceMs) < 0) return -errno;
  if ((connected.revents & (POLLOUT | POLLERR)) != POLLOUT) return -ETIMEDOUT;
  Endpoint local = {};
  Endpoint original = {};
  const int named = local_endpoint(client.get(), &local);
  if (named != 0) return named;
  const int status = original_dst_of(client.get(), local, &original);
  if (status == 0) return 1;
  if (status != -ENOENT) return status;
  // SO_ORIGINAL_DST looks into the default zone only. Rules that put connections into zones (as
  // Istio's do for DNS) are at work too, and show in the number of entries.
  return any_entry();
}

}  // namespace original_dst
