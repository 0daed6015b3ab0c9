// The part of a relay thread that takes PROXY protocol headers off accepted connections.
#include "relay/headers.h"

#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "relay/inspect.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/proxy_header.h"
#include "socket/socket_options.h"

namespace original_dst {

bool ExpectedHeaders::are_from(const Endpoint& peer) const {
  return std::any_of(from.begin(), from.end(), [&peer](const Range& range) {
    return range.family == peer.family &&
           memcmp(range.first, peer.bytes, sizeof(peer.bytes)) <= 0 &&
           memcmp(peer.bytes, range.last, sizeof(peer.bytes)) <= 0;
  });
}

// The last byte of a header is known before the next one is read. `over`: there is no more time.
void RelayThread::look_for_header(Waiting* one, bool over) {
  size_t size = 0;
  if (!peek(one, kMostProxyHeader, &size)) return;
  ProxyHeader header;
  const int need = parse_proxy_header(tools_.scratch, size, &header);
  if (need == 0) return take_header(one, header);
  if (need < 0 || one->ended || over || !wait_for(one, static_cast<size_t>(need), size)) {
    // None, not in time, or not one that is to be believed.
    return refuse(one, kNoHeader);
  }
}

// The rest is the client's, and is decided about as any other connection.
void RelayThread::take_header(Waiting* one, const ProxyHeader& header) {
  auto proxied = std::make_unique<Proxied>();
  proxied->client = header.client;
  proxied->destination = header.destination;
  proxied->size = header.length;
  proxied->bytes.reset(new uint8_t[header.length]);
  if (recv(one->fd.get(), proxied->bytes.get(), header.length, MSG_DONTWAIT) != header.length) {
    return forget_gone(one);
  }
  one->awaits_header = false;
  one->proxied = std::move(proxied);
  // All the facts, as of a connection without one: what they say of loops holds.
  one->certain = one->listener->destination(one->fd.get(), &one->facts, &one->destination);
  const bool told = header.destination.family != 0;
  if (told) one->destination = header.destination;
  one->certain = one->certain || told;
  const uint16_t port = one->certain ? one->destination.port : likely_destination(one->facts).port;
  if (one->listener->inspection.covers(port)) {
    one->looks = 0;
    one->deadline = now_ + one->listener->inspection.timeout_ms;
    waiting_timers_.disarm(one);
    return look(one, false);
  }
  Seen seen = one->seen(now_us_);
  decide(one, &seen);
}

}  // namespace original_dst
