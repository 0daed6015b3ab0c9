#include "socket/original_dst.h"

#include <netinet/in.h>

// After <netinet/in.h>: the kernel header does not compile on its own.
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "socket/socket_diag.h"
#include "socket/socket_options.h"

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

// As check_entry(), of a socket that is connected. TCP_INFO counts segments too, but not how many
// of them were of no use: a client's FIN, which is of use, would look as a stranger's SYN does.
int check_segments(int fd) {
  uint32_t drops = 0;
  const int status = socket_drops(fd, &drops);
  return status == 0 && drops > 0 ? -EADDRINUSE : status;
}

// LOOPBACK4_IPV6: the address that the kernel writes into the IPv4 fields of an IPv6 socket.
constexpr uint8_t kStandIn[4] = {127, 0, 0, 6};

}  // namespace

int original_dst(int fd, bool* v6_first, Endpoint* original) {
  // One system call for the common case, where getsockname(2) for the address' form and then the
  // matching option would be two. For IPv4 on an AF_INET6 socket, too, only IPv4 answers: no packet
  // with an IPv4-mapped address gets past ipv6_rcv(), so that there is no IPv6 entry of such. An
  // AF_INET socket does not know the IPv6 option at all.
  int status6 = *v6_first ? ask_conntrack(fd, false, original) : -ENOENT;
  if (status6 == 0) return 0;
  int status = ask_conntrack(fd, true, original);
  if (status == -ENOENT) {
    if (!*v6_first) status6 = ask_conntrack(fd, false, original);
    if (status6 == 0) *v6_first = true;
    return status6 == -ENOTSUP || status6 == -ENOPROTOOPT ? -ENOENT : status6;
  }
  if (status == 0) *v6_first = false;
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
  // Not SO_PEERNAME, which tells a closed socket's peer too: such a socket's addresses may be
  // another's by now, and whatever conntrack says of them.
  return read_name(getpeername, fd, peer);
}

int check_entry(int fd, Endpoint* peer) {
  const int status = peer_endpoint(fd, peer);
  return status == 0 ? check_segments(fd) : status;
}

int check_mptcp_entry(int fd, int netlink, const Endpoint& local, const Endpoint& peer) {
  DiagSocket subflow = {};
  const int status = find_tcp_socket(netlink, local, peer, &subflow);
  if (status == -ENOENT) return -ENOTCONN;
  if (status != 0) return status;
  struct stat own = {};
  // Not fstat(3), which glibc before 2.33 has under another name. The kernel's struct is the same.
  if (syscall(SYS_fstat, fd, &own) != 0) return -errno;
  // The subflows of an accepted connection are all in its file: another one has the addresses now,
  // or a subflow that came later, maybe by another way.
  if (subflow.inode != static_cast<uint32_t>(own.st_ino) || subflow.joined) return -ENOTCONN;
  return subflow.drops > 0 ? -EADDRINUSE : 0;
}

int read_facts(int fd, Facts* facts) {
  *facts = {};
  const int status = local_endpoint(fd, &facts->local);
  if (status != 0) return status;
  facts->original_status = original_dst_of(fd, facts->local, &facts->original);
  facts->peer_status = peer_endpoint(fd, &facts->peer);
  if (facts->original_status == 0) {
    facts->entry_status = facts->peer_status == 0 ? check_segments(fd) : facts->peer_status;
  }
  return 0;
}

}  // namespace original_dst
