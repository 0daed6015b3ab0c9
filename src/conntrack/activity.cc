#include "conntrack/activity.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "conntrack/flow_probe.h"
#include "socket/endpoint.h"
#include "socket/loopback.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

namespace {

// How long a handshake over the loopback device may take on a machine that is busy.
constexpr int kProbePatienceMs = 20;

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

  FlowProbe probe;
  if (probe.leaves_none(family)) return 0;
  LoopbackSocket listener(family, SOCK_STREAM);
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
  return probe.any() == Entries::kSome;
}

}  // namespace original_dst
