#include "relay/relay.h"

#include <algorithm>
#include <utility>

#include "socket/socket_options.h"

namespace original_dst {

void Relay::open(OwnedFd client, OwnedFd upstream, RelayFresh fresh) {
  ends[kClient].fresh = fresh == kBothFresh;
  ends[kUpstream].fresh = fresh != kNoneFresh;
  ends[kClient].fd = std::move(client);
  ends[kUpstream].fd = std::move(upstream);
  for (const RelaySide side : {kClient, kUpstream}) {
    ends[side].relay = this;
    ends[side].side = side;
    // The one that the thread has accepted has it from its listener.
    const bool from_listener = ends[side].fresh && side == kClient;
    if (!from_listener && ends[side].fd.valid()) set_urgent_inline(ends[side].fd.get(), true);
    flows[side].attach(ends[side].fd.get(), ends[other(side)].fd.get(), ends[other(side)].fresh);
  }
}

void Relay::redial(OwnedFd upstream) {
  RelayEndpoint& end = ends[kUpstream];
  end.fd = std::move(upstream);
  end.broken = false;
  end.writable = false;
  set_urgent_inline(end.fd.get(), true);
  flows[kUpstream].replace_source(end.fd.get());
  flows[kClient].replace_sink(end.fd.get());
}

uint64_t Relay::deadline() const {
  uint32_t limit = limits.idle;
  const bool half_closed = flows[0].done() || flows[1].done();
  if (connecting || onward != nullptr) {
    limit = limits.connect;
    const uint32_t own = connecting && onward != nullptr ? onward->timeout_ms() : 0;
    if (own != 0) limit = limit == 0 ? own : std::min(limit, own);
  } else if (half_closed && limits.half_close != 0) {
    limit = limit == 0 ? limits.half_close : std::min(limit, limits.half_close);
  }
  return limit == 0 ? UINT64_MAX : last_activity + limit;
}

// Not before it matters: most connections are over by then, and are spared the system calls.
uint64_t Relay::probe_at() const {
  return probing || limits.dead_peer == 0 ? UINT64_MAX : began + limits.dead_peer / 2;
}

void Relay::probe() {
  probing = true;
  for (const RelayEndpoint& end : ends) set_keepalive(end.fd.get(), limits.dead_peer);
}

}  // namespace original_dst
