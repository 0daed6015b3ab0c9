#include "conntrack/flow_probe.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "socket/loopback.h"

namespace original_dst {

namespace {

// The queue of a socket has room for several times as many. A full one would count as an error in
// the host's statistics.
constexpr unsigned kQueued = 32;

}  // namespace

Entries FlowProbe::any() {
  if (!count_.valid()) {
    count_.reset(open("/proc/sys/net/netfilter/nf_conntrack_count", O_RDONLY | O_CLOEXEC));
  }
  char first = 0;
  if (count_.valid() && pread(count_.get(), &first, 1, 0) == 1) {
    return first == '0' ? Entries::kNone : Entries::kSome;
  }
  // The module may have gone, and may come back.
  count_.reset();
  return Entries::kUnreadable;
}

bool FlowProbe::Echo::send_one(int family) {
  if (!fd.valid()) {
    LoopbackSocket self(family, SOCK_DGRAM);
    if (self.status != 0 || connect(self.fd.get(), self.name(), self.length) != 0) return false;
    fd = std::move(self.fd);
  }
  if (queued++ == kQueued) {
    mmsghdr discarded[kQueued] = {};
    static_cast<void>(recvmmsg(fd.get(), discarded, kQueued, MSG_DONTWAIT, nullptr));
    queued = 1;
  }
  return send(fd.get(), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

bool FlowProbe::leaves_none(int family) {
  Echo& echo = family == 4 ? v4_ : v6_;
  return echo.send_one(family) && any() == Entries::kNone;
}

}  // namespace original_dst
