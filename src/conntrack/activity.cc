#include "conntrack/activity.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socket/endpoint.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

namespace {

// How long a handshake over the loopback device may take on a machine that is busy.
constexpr int kProbePatienceMs = 20;

// A socket bound to a port of the loopback address.
struct Bound {
  OwnedFd fd;
  sockaddr_storage address;
  socklen_t length;
  int status;  // 0 or -errno

  Bound(int family, int type) {
    Endpoint loopback = {};
    endpoint_parse(family == 4 ? "127.0.0.1" : "::1", 0, &loopback);
    length = endpoint_to_sockaddr(loopback, false, &address);
    fd.reset(socket(address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const bool bound = fd.valid() && bind(fd.get(), name(), length) == 0 &&
                       getsockname(fd.get(), name(), &length) == 0;
    status = bound ? 0 : -errno;
  }

  sockaddr* name() { return reinterpret_cast<sockaddr*>(&address); }
};

enum class Entries { kNone, kSome, kUnreadable };

// Does conntrack know any flow of this network namespace, in whichever zone?
Entries any_entry() {
  const OwnedFd file(open("/proc/sys/net/netfilter/nf_conntrack_count", O_RDONLY | O_CLOEXEC));
  char first = 0;
  if (!file.valid() || read(file.get(), &first, 1) != 1) return Entries::kUnreadable;
  return first == '0' ? Entries::kNone : Entries::kSome;
}

// Does a datagram that has left here leave no entry behind? Entries are made on the way out, before
// sendto(2) returns; where a rule throws the datagram away, it fails.
bool leaves_none(int family) {
  Bound self(family, SOCK_DGRAM);
  return self.status == 0 && sendto(self.fd.get(), "", 1, 0, self.name(), self.length) == 1 &&
         any_entry() == Entries::kNone;
}

}  // namespace

int conntrack_active(int family) {
  const int domain = family == 4 ? AF_INET : AF_INET6;
  const OwnedFd client(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!client.valid()) return -errno;
  Endpoint local = {};
  local.family = static_cast<uint16_t>(family);
  Endpoint original = {};
  // Of a socket that is not connected there is no entry, but a kernel that cannot be asked says so.
  const int refusal = original_dst_of(client.get(), local, &original);
  if (refusal != -ENOENT) return refusal;

  if (leaves_none(family)) return 0;
  Bound listener(family, SOCK_STREAM);
  if (listener.status != 0) return listener.status;
  if (listen(listener.fd.get(), 1) != 0) return -errno;
  if (connect(client.get(), listener.name(), listener.length) != 0 && errno != EINPROGRESS) {
    return -errno;
  }
  // Entries can be found only once the SYN has arrived. It mostly has by now; not so on a machine
  // whose softirqs are deferred, and "no entry" would then be the wrong answer.
  pollfd connected = {client.get(), POLLOUT, 0};
  if (poll(&connected, 1, kProbePatienceMs) < 0) return -errno;
  if ((connected.revents & (POLLOUT | POLLERR)) != POLLOUT) return -ETIMEDOUT;
  const int named = local_endpoint(client.get(), &local);
  if (named != 0) return named;
  const int status = original_dst_of(client.get(), local, &original);
  if (status == 0) return 1;
  if (status != -ENOENT) return status;
  // SO_ORIGINAL_DST looks into the default zone only. Rules that put connections into zones (as
  // Istio's do for DNS) are at work too, and show in the number of entries.
  return any_entry() == Entries::kSome;
}

}  // namespace original_dst
