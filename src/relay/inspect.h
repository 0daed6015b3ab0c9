// A connection that the relay thread has accepted and whose first bytes it looks at, without taking
// them from the socket, before anybody decides about it.
#ifndef ORIGINAL_DST_RELAY_INSPECT_H_
#define ORIGINAL_DST_RELAY_INSPECT_H_

#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "names/first_bytes.h"
#include "relay/admissions.h"
#include "relay/headers.h"
#include "relay/relay.h"
#include "relay/timers.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

// Of which connections, and for how long, a listener looks at the first bytes.
struct Inspection {
  bool on = false;
  bool every_port = false;
  std::vector<uint16_t> ports;  // of the destinations, in order
  uint32_t timeout_ms = 0;
  size_t max_bytes = 0;

  bool covers(uint16_t port) const {
    return on && (every_port || std::binary_search(ports.begin(), ports.end(), port));
  }
};

// What was seen of it.
struct Seen {
  bool looked = true;  // at what the client has said; else only at the header ahead of it
  FirstBytes first;
  size_t size = 0;
  uint64_t accepted_us = 0;
  std::unique_ptr<uint8_t[]> bytes;
  std::unique_ptr<Proxied> proxied;  // null: it is not from a proxy in front
};

// Who has dialled.
inline const Endpoint& client_of(const Facts& facts, const Seen* seen) {
  const bool told =
      seen != nullptr && seen->proxied != nullptr && seen->proxied->client.family != 0;
  return told ? seen->proxied->client : facts.peer;
}

// Is the destination that of the header?
inline bool is_proxied(const Seen* seen) {
  return seen != nullptr && seen->proxied != nullptr && seen->proxied->destination.family != 0;
}

// One that has not said enough. What it has said stays in the kernel's buffer, so that it costs
// this and its descriptor, whatever it sends.
struct Waiting : Timed, Watched {
  Waiting() : Watched(kWaiting) {}
  OwnedFd fd;
  uint32_t low_water = 1;  // SO_RCVLOWAT
  uint32_t since = 0;      // milliseconds, their last 32 bits
  uint16_t looks = 0;
  bool certain = false;  // is the destination known?
  bool awaits_header = false;
  bool watched = false;  // in the epoll set
  bool ready = false;    // there is an event to be acted on
  bool ended = false;    // the client has sent FIN, or the connection is broken
  Admission admission;
  Facts facts;
  Endpoint destination;
  RelayListener* listener = nullptr;
  uint64_t deadline = 0;
  std::unique_ptr<Proxied> proxied;  // once its header has been taken
  Waiting* next_ready = nullptr;
  Waiting* next = nullptr;  // of the listener's
  Waiting* previous = nullptr;

  const Endpoint* known_destination() const { return certain ? &destination : nullptr; }
  // What is known of it before its first bytes are; its header goes along. Once.
  Seen seen(uint64_t now_us) {
    Seen told;
    told.looked = false;
    told.accepted_us = now_us - uint64_t{static_cast<uint32_t>(now_us / 1000) - since} * 1000;
    told.proxied = std::move(proxied);
    return told;
  }
};
static_assert(sizeof(Waiting) <= 256, "docs/names.md says what a silent client costs");

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_INSPECT_H_
