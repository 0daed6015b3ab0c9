// A listening socket whose connections a relay thread accepts, dials on and relays by itself, as
// far as TypeScript has decided about their destinations beforehand.
#ifndef ORIGINAL_DST_RELAY_LISTENER_H_
#define ORIGINAL_DST_RELAY_LISTENER_H_

#include <stdint.h>

#include <memory>

#include "ebpf/alias_table.h"
#include "host/origin.h"
#include "relay/admissions.h"
#include "relay/histogram.h"
#include "relay/inspect.h"
#include "relay/listener_group.h"
#include "relay/relay.h"
#include "socket/certain_destination.h"
#include "socket/dial.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

// Written by the relay thread, read by TypeScript straight from memory.
struct ListenerStats {
  double accepted;
  double redirect;     // of those that a verdict covered: as the one that it was made on
  double tproxy;       // likewise
  double ebpf;         // likewise: captured
  double proxied;      // likewise: by the header of a proxy in front
  double relayed;      // a dial was made, by verdict
  double reset;        // RST was sent, by verdict
  double failed;       // the dial failed, or there was no descriptor for it
  double undecided;    // went up to TypeScript
  double open;         // of the relayed: how many still are
  double to_upstream;  // bytes of the relayed
  double to_client;
  double inspecting;                // whose first bytes are awaited, now
  double gone;                      // of those: reset by the client
  double refused[kRefusalReasons];  // RST was sent, by Admitted
  double records_dropped;           // nobody took them in time
  Histogram dial;                   // of the relayed
  Histogram duration;               // likewise
};
static_assert(sizeof(ListenerStats) == 424, "lib/relay/server-stats.ts knows this layout");

// How the connections of a listener are dialled on.
struct DialPlan {
  enum Source : uint8_t { kOwn = 0, kClientAddress = 1, kClientAddressAndPort = 2 };

  bool marked;
  uint32_t mark;
  Source source;
  bool port_fallback;
  RecentDials* dials = nullptr;  // null: they are not noted
  SuppliedFrom sockets = {};

  Dial dial(const Endpoint& destination, const Endpoint& client) const;
  // The same for a way whose hops are not known yet.
  Dial dial(const Endpoint& client) const { return dial(Endpoint(), client); }
  DialNote note(Path path) const { return {dials, path, source != kOwn, 0}; }
};

// What became of a connection, by lasting verdicts.
struct Handled {
  Verdict verdict = kUndecided;
  bool tproxy = false;
  int error = 0;     // errno of the dial, and then the verdict is kResetIt
  OwnedFd upstream;  // connecting, and noted
  DialNote note;
  Route::Ref route;  // to be taken: then there is no upstream yet
};

// What TypeScript hears of the connections to listeners.
struct News {
  enum Kind : uint8_t {
    kUndecided,  // decide about this connection
    kGone,       // the one that was watched with `tag` is gone
    kOver,       // the listener was closed, and no relay of its is left
  };
  Kind kind = kUndecided;
  OwnedFd fd;
  int status = 0;  // of `facts`, as of read_facts()
  Facts facts = {};
  Endpoint client = {};  // who has dialled
  Path path = 0;         // of the dial that may follow
  DialPlan plan = {};
  RelayLimits limits = {};
  Admission admission;
  std::unique_ptr<Seen> seen;  // null: nobody has looked
  uint64_t tag = 0;
  uint64_t accepted_us = 0;           // of CLOCK_MONOTONIC
  uint32_t thread = 0;                // that has accepted it
  RelayListener* listener = nullptr;  // deleted, perhaps, by the time the decision is there
  News* next = nullptr;
};

struct RelayListener : Watched {
  RelayListener() : Watched(kListener) {}
  RelayListener(const RelayListener&) = delete;
  RelayListener& operator=(const RelayListener&) = delete;
  ~RelayListener() {
    if (group != nullptr) group->unref();
  }
  uint32_t id = 0;
  uint32_t thread = 0;  // its number
  OwnedFd fd;
  uint16_t port = 0;
  DialPlan plan = {};
  RelayLimits limits = {};
  Inspection inspection;
  ExpectedHeaders headers;
  AliasTables* aliases = nullptr;
  ListenerStats* stats = nullptr;
  ListenerGroup* group = nullptr;
  bool shared = false;  // other threads listen too

  // Does anybody want records? Set by the other thread.
  bool recorded() const { return __atomic_load_n(&recorded_, __ATOMIC_RELAXED); }
  void set_recorded(bool on) { __atomic_store_n(&recorded_, on, __ATOMIC_RELAXED); }

  // The relay thread's own.
  OwnedFd spare;  // given up for a moment when there are no descriptors, to refuse a connection
  uint64_t paused_until = 0;                // while accept4(2) cannot go on; 0: it can
  uint64_t closes_at = 0;                   // 0: not yet
  List<Relay, &Relay::of_listener> relays;  // the open ones
  Waiting* waiting = nullptr;
  // How many connections are accepted in a turn: one event says that there is one, and to ask for
  // another is a system call. Twice as many each time that the next turn finds more at once.
  uint32_t at_once = 1;
  bool ready = false;
  bool listening = false;
  RelayListener* next = nullptr;  // in the thread's list

  enum class Accepted : uint8_t {
    kOne,
    kNotThisOne,  // it is gone; the next one may be there
    kRefused,     // for want of a descriptor; likewise
    kNone,
    kCannot,  // no descriptor, not even to refuse one, or no memory: every further try is in vain
  };
  // accept4(2), which tells the peer too: also that of one that was refused.
  Accepted accept_one(OwnedFd* accepted, Facts* facts);
  // fcntl(2). Returns false when there is no descriptor.
  bool take_spare();
  // Was it closed, with nothing of it left?
  bool is_over() const { return !listening && relays.first() == nullptr && waiting == nullptr; }
  // As find_destination(), where the connection was not captured.
  bool destination(int accepted, Facts* facts, Endpoint* found) const;
  // Decides by lasting verdicts, and dials. kResetIt: send RST; kUndecided: ask, also about a loop,
  // which is for TypeScript to report.
  Handled handle(int accepted, const Endpoint& destination, const Wanted& wanted, uint64_t now_ms,
                 const Facts& facts, const Seen* seen);
  // As origin_of(); on either thread.
  Origin origin(int accepted, const Facts& facts, const Endpoint& destination, Path* path) const;
  // For TypeScript to decide about, with all the facts.
  News* undecided(OwnedFd accepted, const Facts& facts, Admission admission);

 private:
  bool recorded_ = false;
  Accepted refuse_one(Facts* facts);
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_LISTENER_H_
