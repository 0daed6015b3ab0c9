// A relay: a pair of connected sockets whose bytes go from one to the other.
#ifndef ORIGINAL_DST_RELAY_RELAY_H_
#define ORIGINAL_DST_RELAY_RELAY_H_

#include <stdint.h>

#include <memory>

#include "host/recent_dials.h"
#include "relay/admissions.h"
#include "relay/flow.h"
#include "relay/list.h"
#include "relay/record.h"
#include "relay/route.h"
#include "relay/timers.h"
#include "relay/watched.h"
#include "socket/dial.h"
#include "socket/owned_fd.h"

namespace original_dst {

enum RelaySide : uint8_t { kClient = 0, kUpstream = 1, kNeither = 2 };

enum RelayReason : uint8_t {
  kRelayOpen = 0,
  kRelayEnd = 1,      // both directions ended
  kRelayReset = 2,    // `side` broke the connection
  kRelayIdle = 3,     // nothing moved for as long as allowed
  kRelayAborted = 4,  // destroy()
  kRelayError = 5,    // `error` at `side`
};

// What others see of a relay while it runs: written by the thread, read by TypeScript straight from
// memory. Both counters are aligned doubles, written in one piece.
struct RelaySlot {
  double to_upstream;
  double to_client;
  uint8_t reason;  // RelayReason; settled before the relay appears in take_closed()
  uint8_t side;
  uint8_t step;  // DialStep, of an error before there was a connection to the upstream
  uint8_t unused;
  int32_t error;      // -errno or 0
  float dial_ms;      // until there was a connection; -1: there was none, or it was there before
  float duration_ms;  // since it was dialled, or came to the thread
};
static_assert(sizeof(RelaySlot) == 32, "lib/relay/engine.ts knows this layout");

// Milliseconds; 0: none. The order is that of lib/relay/timeouts.ts.
struct RelayLimits {
  uint32_t idle;
  uint32_t half_close;  // instead of `idle` once one direction has ended, if shorter
  uint32_t connect;     // of the upstream, if the thread dials it
  uint32_t dead_peer;   // how long a peer may be silent to the kernel's probes too
};
static_assert(sizeof(RelayLimits) == 16, "lib/relay/timeouts.ts knows this layout");

// Which of a relay's sockets are fresh: made for it, so that nothing has been sent on them, and
// nobody else has descriptors of them.
enum RelayFresh : uint8_t { kNoneFresh, kUpstreamFresh, kBothFresh };

struct Relay;
struct RelayListener;

// One of a relay's two sockets.
struct RelayEndpoint : Watched {
  RelayEndpoint() : Watched(kEndpoint) {}
  OwnedFd fd;
  Relay* relay = nullptr;
  RelaySide side = kNeither;
  bool fresh = false;     // as of RelayFresh
  bool watched = false;   // in the epoll set already, as something else
  bool for_room = false;  // watched for EPOLLOUT too
  bool broken = false;    // EPOLLERR was seen
  bool writable = false;  // EPOLLOUT was seen
};

struct Relay : Timed {
  uint32_t id = 0;
  RelayLimits limits = {};
  RelaySlot* slot = nullptr;
  RelayEndpoint ends[2];
  Flow flows[2];               // by source: [kClient] goes to the upstream
  uint64_t began = 0;          // milliseconds of CLOCK_MONOTONIC
  uint64_t last_activity = 0;  // likewise
  uint64_t began_us = 0;       // set already where it was dialled ahead of coming to the thread
  int64_t dial_us = -1;   // until there was a connection to the upstream that the thread dialled
  Relay* next = nullptr;  // in the list of closed relays
  Links<Relay> busy;
  bool connecting = false;  // to the upstream
  bool owes_ack = false;    // to the upstream, as of start_dial()
  uint64_t owes_since = 0;  // microseconds, while it is in that list
  Links<Relay> owing;
  Admission admission;   // of a connection to a listener that has limits
  DialNote note;         // about the upstream, where the thread dials it
  bool probing = false;  // the kernel has been told to find out whether the peers live
  // The upstream is still to be dialled by the thread; ends[kClient] has its descriptor already.
  std::unique_ptr<Dial> dial;
  // Another way than by one dial, until it has led to the upstream.
  std::unique_ptr<Onward> onward;

  // Of a relay that the thread made itself, for a connection to `listener`.
  RelayListener* listener = nullptr;
  uint64_t published[2] = {};      // bytes of each flow that the listener's numbers have already
  std::unique_ptr<Record> record;  // null: nobody wants to know
  Links<Relay> of_listener;

  // Takes two non-blocking stream sockets.
  void open(OwnedFd client, OwnedFd upstream, RelayFresh fresh);
  // Another upstream, in place of none or of one that nothing was relayed to.
  void redial(OwnedFd upstream);
  // When it is over unless something happens; UINT64_MAX: never.
  uint64_t deadline() const;
  // When the kernel is to be told to find out whether the peers live; UINT64_MAX: not any more.
  uint64_t probe_at() const;
  // setsockopt(2) on both sockets, for `dead_peer`.
  void probe();
};

inline RelaySide other(RelaySide side) { return side == kClient ? kUpstream : kClient; }

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_RELAY_H_
