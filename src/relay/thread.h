// Relays: pairs of connected sockets whose bytes a thread of ours moves from one to the other.
#ifndef ORIGINAL_DST_RELAY_THREAD_H_
#define ORIGINAL_DST_RELAY_THREAD_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "host/recent_dials.h"
#include "relay/flow.h"
#include "relay/timers.h"
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
  int32_t error;  // -errno or 0
};
static_assert(sizeof(RelaySlot) == 24, "lib/relay/engine.ts knows this layout");

struct RelayLimits {
  uint32_t idle_ms;        // 0: none
  uint32_t half_close_ms;  // instead of idle_ms once one direction has ended, if shorter; 0: none
};

struct Relay;
struct RelayListener;
struct Undecided;

// What epoll's events point to.
struct Watched {
  explicit Watched(bool is_listener) : listens(is_listener) {}
  const bool listens;
};

// One of a relay's two sockets.
struct RelayEndpoint : Watched {
  RelayEndpoint() : Watched(false) {}
  OwnedFd fd;
  Relay* relay = nullptr;
  RelaySide side = kNeither;
  bool broken = false;    // EPOLLERR was seen
  bool writable = false;  // EPOLLOUT was seen
};

struct Relay : Timed {
  uint32_t id = 0;
  RelayLimits limits = {};
  RelaySlot* slot = nullptr;
  RelayEndpoint ends[2];
  Flow flows[2];  // by source: [kClient] goes to the upstream
  uint64_t last_activity = 0;
  Relay* next = nullptr;  // in a list of new or of closed relays, or in the list of busy ones
  Relay* previous = nullptr;
  bool busy = false;
  bool connecting = false;  // to the upstream
  DialNote note;            // about the upstream, where the thread dials it
  // The upstream is still to be dialled by the thread; ends[kClient] has its descriptor already.
  std::unique_ptr<Dial> dial;

  // Of a relay that the thread made itself, for a connection to `listener`.
  RelayListener* listener = nullptr;
  Relay* next_of_listener = nullptr;
  Relay* previous_of_listener = nullptr;

  // Takes two non-blocking stream sockets; `fresh` as of Flow::attach().
  void open(OwnedFd client, OwnedFd upstream, bool fresh);
};

// A thread with an epoll set. Every method may be called from one other thread (the one that runs
// TypeScript); nothing is called back but `notify`, on the relay thread, which must not block.
class RelayThread {
 public:
  using Notify = void (*)(void* context);

  RelayThread(Notify notify, void* context) : notify_(notify), context_(context) {}
  RelayThread(const RelayThread&) = delete;
  RelayThread& operator=(const RelayThread&) = delete;
  ~RelayThread() { stop(); }

  // Returns 0 or -errno.
  int start();
  // Closes every relay and joins the thread.
  void stop();

  // Gives the relay, made with new, to the thread; it comes back through take_closed(). Returns 0
  // or -ENOMEM, and then the relay is still the caller's.
  int add(Relay* relay);
  // Gives the listener to the thread until take_undecided() says that it is over. Returns 0 or
  // -ENOMEM.
  int listen(RelayListener* listener);
  // Accepts no more, and with `destroy` closes the relays it has made. Returns 0 or -ENOMEM.
  int unlisten(RelayListener* listener, bool destroy);
  // The connections that nobody has decided about, linked by `next`, oldest first, now the
  // caller's to delete. `notify` says when there are some.
  Undecided* take_undecided();
  // Does nothing if that relay is closed already. Returns 0 or -ENOMEM.
  int destroy(uint32_t id);
  // The relays that have closed since the last call, linked by `next`, oldest first, now the
  // caller's to delete. `notify` says when there are some.
  Relay* take_closed();
  // Between the two the thread is not woken for what it is given: once for many is enough.
  void cork() { corked_ = true; }
  void uncork();

 private:
  struct Command;

  static void* entry(void* self);
  void run();
  int order(const Command& order);
  void post(Command* command);
  void wake();
  void tell();
  void take_commands();
  void begin(Relay* relay);
  bool watch(Relay* relay);
  bool start_dialling(Relay* relay);
  void begin_listening(RelayListener* listener);
  void end_listening(RelayListener* listener, bool destroy);
  void serve_listeners();
  void accept(RelayListener* listener);
  void pause(RelayListener* listener);
  void resume(RelayListener* listener);
  uint64_t resume_at() const;
  bool has_connected(Relay* relay);
  void forget(Relay* relay);
  void dismiss(RelayListener* listener);
  void hand_up(Undecided* one);
  void note_events(RelayEndpoint* end, uint32_t events);
  void serve(Relay* relay);
  bool serve_flow(Relay* relay, RelaySide side);
  void expire();
  bool arm(Relay* relay);
  void fail(Relay* relay, RelaySide side, int error);
  void close(Relay* relay, RelayReason reason, RelaySide side, int error);
  void publish(Relay* relay);
  void enqueue(Relay* relay);
  void dequeue(Relay* relay);
  int wait_ms() const;
  Relay* find(uint32_t id) const { return id < table_size_ ? table_[id] : nullptr; }

  const Notify notify_;
  void* const context_;
  pthread_t thread_ = {};
  bool started_ = false;
  OwnedFd epoll_;
  OwnedFd wake_;
  bool corked_ = false;  // the other thread's own

  // Shared with the other thread, under the mutex.
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  Command* commands_ = nullptr;
  Command** commands_tail_ = &commands_;
  Relay* closed_ = nullptr;
  Relay** closed_tail_ = &closed_;
  Undecided* undecided_ = nullptr;
  Undecided** undecided_tail_ = &undecided_;

  // The relay thread's own.
  FlowTools tools_ = {};
  Timers timers_;
  Relay** table_ = nullptr;  // by id
  size_t table_size_ = 0;
  Relay* busy_first_ = nullptr;
  Relay* busy_last_ = nullptr;
  RelayListener* listeners_ = nullptr;
  uint64_t now_ = 0;
  bool news_ = false;  // for the other thread
  bool stopping_ = false;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_THREAD_H_
