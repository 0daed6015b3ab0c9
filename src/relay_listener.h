// A listening socket whose connections a relay thread accepts, dials on and relays by itself, as
// far as TypeScript has decided about their destinations beforehand.
#ifndef ORIGINAL_DST_RELAY_LISTENER_H_
#define ORIGINAL_DST_RELAY_LISTENER_H_

#include <stdint.h>

#include "owned_fd.h"
#include "relay.h"
#include "verdicts.h"

namespace original_dst {

// Written by the relay thread, read by TypeScript straight from memory.
struct ListenerStats {
  double accepted;
  double relayed;      // a dial was made, by verdict
  double reset;        // RST was sent, by verdict
  double failed;       // the dial failed, or there was no descriptor for it
  double undecided;    // went up to TypeScript
  double open;         // of the relayed: how many still are
  double to_upstream;  // bytes of those that have closed
  double to_client;
};
static_assert(sizeof(ListenerStats) == 64, "lib/relay-server.ts knows this layout");

// A connection for TypeScript to decide about; without a descriptor, the news that a listener that
// was closed has no relay left.
struct Undecided {
  OwnedFd fd;
  RelayListener* listener = nullptr;
  Undecided* next = nullptr;
};

struct RelayListener : Watched {
  RelayListener() : Watched(true) {}
  uint32_t id = 0;
  OwnedFd fd;
  uint16_t port = 0;
  bool marked = false;
  uint32_t mark = 0;
  RelayLimits limits = {};
  ListenerStats* stats = nullptr;
  Verdicts verdicts;

  // The relay thread's own.
  OwnedFd spare;  // given up for a moment when there are no descriptors, to refuse a connection
  Relay* first = nullptr;  // the open ones
  bool ready = false;
  bool listening = false;
  RelayListener* next = nullptr;  // in the thread's list

  // accept4(2). False when there is none; `*accepted` is invalid for one that had to be refused.
  bool accept_one(OwnedFd* accepted);
  // Decides and dials. kRelayIt: `*upstream` is connecting; kResetIt: send RST; kUndecided: ask.
  Verdict handle(int accepted, uint64_t now_ms, OwnedFd* upstream);
};

void add_to(double* counter, double amount);

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_LISTENER_H_
