#include "host/origin.h"

#include <errno.h>
#include <sys/socket.h>

#include "namespace/inside.h"
#include "socket/socket_diag.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// LOOPBACK_IFINDEX: the same in every network namespace.
constexpr int kLoopback = 1;

// SO_PEERNAME still knows the peer of a connection that has been reset; getpeername(2) does not.
int former_peer(int accepted, Endpoint* peer) {
  // It refuses room for more than the address: each length of its own.
  const socklen_t lengths[] = {sizeof(sockaddr_in6), sizeof(sockaddr_in)};
  for (socklen_t length : lengths) {
    sockaddr_storage address = {};
    if (getsockopt(accepted, SOL_SOCKET, SO_PEERNAME, &address, &length) == 0) {
      return endpoint_from_sockaddr(address, peer);
    }
  }
  return -errno;
}

// In the network namespace of the accepted socket: both ends of a loop are in one.
bool exists(int accepted, const Endpoint& local, const Endpoint& remote, uint64_t cookie) {
  int answer = 0;
  const int status = at(accepted, [&] { answer = tcp_socket_exists(local, remote, cookie); });
  return status == 0 && answer == 1;
}

bool is_other_end(int accepted, const Facts& facts, const Endpoint& peer,
                  const Endpoint& destination, const RecentDial& dial) {
  if (dial.transparent && arrival_interface(accepted, peer.family) != kLoopback) return false;
  // A dial that eBPF has captured goes to the alias that the accepted socket has for its own
  // address.
  const Endpoint& to = facts.capture_status > 0 ? facts.local : destination;
  if (exists(accepted, peer, to, dial.cookie)) return true;
  // Gone, or the kernel does not say (no tcp_diag, no netlink), which shows when it does not know
  // of an open connection either. In doubt it is a loop: a refused connection does less harm than
  // an endless loop, and one that is closed has nobody to be harmed.
  Endpoint local = {};
  return local_endpoint(accepted, &local) != 0 || !exists(accepted, local, peer, kAnyCookie);
}

bool came_through(Path path, uint16_t port) {
  for (; path != 0; path >>= 16) {
    if ((path & UINT16_MAX) == port) return true;
  }
  return false;
}

}  // namespace

Origin origin_of(int accepted, const Facts& facts, const Endpoint& destination, uint16_t port,
                 const RecentDials& dials, Path* path) {
  *path = port;
  Endpoint peer = facts.peer;
  if (facts.peer_status != 0 && former_peer(accepted, &peer) != 0) return kElsewhere;
  RecentDial dial = {};
  if (!dials.find(peer, destination, &dial)) return kElsewhere;
  if (!is_other_end(accepted, facts, peer, destination, dial)) return kElsewhere;
  if (dial.path == 0) return kOwnDial;
  const bool full = dial.path >> (16 * (kLongestPath - 1)) != 0;
  if (full || came_through(dial.path, port)) return kLoop;
  *path = dial.path << 16 | port;
  return kOtherListener;
}

const Endpoint& likely_destination(const Facts& facts) {
  if (facts.capture_status > 0) return facts.captured;
  const bool told = facts.original_status == 0 && !same_address(facts.original, facts.peer);
  return told ? facts.original : facts.local;
}

}  // namespace original_dst
