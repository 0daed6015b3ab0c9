// A thread that runs relays, and accepts and dials the connections of some by itself.
#ifndef ORIGINAL_DST_RELAY_THREAD_H_
#define ORIGINAL_DST_RELAY_THREAD_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "relay/flow.h"
#include "relay/record.h"
#include "relay/relay.h"
#include "relay/timers.h"
#include "relay/watched.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

struct FirstBytes;
struct Handled;
struct News;
struct ProxyHeader;
struct RelayListener;
struct Seen;
struct Waiting;

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
  // Gives the listener to the thread until take_news() says that it is over. Returns 0 or
  // -ENOMEM.
  int listen(RelayListener* listener);
  // Accepts no more, and with `destroy` closes the relays it has made. Returns 0 or -ENOMEM.
  int unlisten(RelayListener* listener, bool destroy);
  // What there is to say of listeners and of connections that nobody has decided about, linked by
  // `next`, oldest first, now the caller's to delete. `notify` says when there is some.
  News* take_news();
  // Reports a connection that nobody has decided about with its tag when it is gone: reset, or
  // broken. Of its end alone (FIN) nothing is said: the client may be waiting for an answer.
  // Returns 0 or -errno.
  int watch_undecided(int fd, uint64_t tag);
  // A report may still be on its way.
  void unwatch_undecided(int fd);
  // Does nothing if that relay is closed already. Returns 0 or -ENOMEM.
  int destroy(uint32_t id);
  // The relays that have closed since the last call, linked by `next`, oldest first, now the
  // caller's to delete. `notify` says when there are some.
  Relay* take_closed();
  // Of connections that the thread has dealt with by itself, to listeners that are recorded. Those
  // of a listener are there before the news that it is over.
  void take_records(Records* to);
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
  int watch(int operation, int fd, Watched* one, uint32_t events);
  void note_events(RelayEndpoint* end, uint32_t events);
  int wait_ms() const;
  Relay* find(uint32_t id) const { return id < table_size_ ? table_[id] : nullptr; }
  // ---- serve.cc ----
  void begin(Relay* relay);
  bool watch(Relay* relay);
  bool watch(RelayEndpoint* end, int operation);
  uint64_t began_us(const Relay& relay) const;
  bool watch_for_room(RelayEndpoint* end);
  bool start_dialling(Relay* relay);
  bool watch_upstream(Relay* relay);
  bool has_connected(Relay* relay);
  void serve(Relay* relay);
  bool serve_flow(Relay* relay, RelaySide side);
  void expire();
  bool arm(Relay* relay);
  void fail_dial(Relay* relay, int error);
  void fail(Relay* relay, RelaySide side, int error);
  void close(Relay* relay, RelayReason reason, RelaySide side, int error);
  void publish(Relay* relay);
  // ---- accept.cc ----
  void begin_listening(RelayListener* listener);
  void end_listening(RelayListener* listener, bool destroy);
  void watch(RelayListener* listener);
  void stop_accepting(RelayListener* listener);
  void let_others(RelayListener* listener);
  void serve_listeners();
  bool accept(RelayListener* listener);
  // `destination`: null where it is not certain. `seen`: null where nobody has looked; its bytes
  // are in the scratch buffer. `watched`: the socket is in the epoll set.
  void decide(RelayListener* listener, OwnedFd accepted, Facts* facts, const Endpoint* destination,
              Seen* seen, bool watched, Admission admission);
  void refuse(RelayListener* listener, const OwnedFd& accepted, const Facts& facts,
              const Endpoint* destination, const Seen* seen, Admitted why);
  void pause(RelayListener* listener);
  void resume(RelayListener* listener);
  uint64_t listeners_due() const;
  void on_connection_gone(uint64_t tag);
  void forget(Relay* relay);
  void dismiss(RelayListener* listener);
  void hand_up(News* one);
  // ---- acknowledge.cc ----
  void see_to_ack(Relay* relay);
  static void acknowledge(Relay* relay);
  void acknowledge_due(bool idle);
  int wait(epoll_event* events, int most);
  // ---- recording.cc ----
  // Null where nobody wants to know.
  std::unique_ptr<Record> record_of(RelayListener* listener, const Facts& facts,
                                    const Endpoint* destination, const Seen* seen);
  void record_refusal(RelayListener* listener, const Facts& facts, const Endpoint* destination,
                      const Seen* seen, uint8_t outcome, int error);
  void record_verdict(std::unique_ptr<Record> one, const Handled& handled);
  void add_record(std::unique_ptr<Record> one);
  void record_end(Relay* relay, RelayReason reason, RelaySide side, int error);
  void hand_up_records();
  // ---- headers.cc ----
  void look_for_header(Waiting* one, bool over);
  void take_header(Waiting* one, const ProxyHeader& header);
  // ---- inspect.cc ----
  Waiting* let_wait(RelayListener* listener, OwnedFd accepted, const Facts& facts,
                    const Endpoint* destination, Admission admission);
  void await_header(RelayListener* listener, OwnedFd accepted, const Facts& facts,
                    Admission admission);
  void inspect(RelayListener* listener, OwnedFd accepted, const Facts& facts,
               const Endpoint* destination, Admission admission);
  void note_waiting(Waiting* one, uint32_t events);
  void serve_waiting();
  void expire_waiting();
  void look(Waiting* one, bool over);
  bool peek(Waiting* one, size_t most, size_t* size);
  bool wait_for(Waiting* one, size_t need, size_t size);
  void settle(Waiting* one, const FirstBytes& first, size_t size);
  void decide(Waiting* one, Seen* seen);
  void refuse(Waiting* one, Admitted why);
  void forget_gone(Waiting* one);
  void forget(Waiting* one);
  // ---- onward.cc ----
  bool dial_hop(Relay* relay);
  void fail_hop(Relay* relay, DialStep step, int error);
  void fail_route(Relay* relay);
  bool converse(Relay* relay);
  bool say(Relay* relay);
  bool hear(Relay* relay);

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
  News* first_news_ = nullptr;
  News** news_tail_ = &first_news_;
  Records ready_records_;

  // The relay thread's own.
  WatchedTable watched_;
  FlowTools tools_ = {};
  Timers timers_;
  Timers waiting_timers_;
  Waiting* ready_ = nullptr;  // with events to be acted on
  Relay** table_ = nullptr;   // by id
  size_t table_size_ = 0;
  List<Relay, &Relay::busy> busy_;    // with something to do
  List<Relay, &Relay::owing> owing_;  // an acknowledgement
  bool waits_finely_ = true;
  RelayListener* listeners_ = nullptr;
  Records records_;
  uint64_t records_due_ = UINT64_MAX;  // when they go up, as many as there are
  uint64_t now_ = 0;
  uint64_t now_us_ = 0;
  bool news_ = false;              // for the other thread
  uint64_t tell_at_ = UINT64_MAX;  // of relays that have ended, when the other thread is told
  bool stopping_ = false;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_THREAD_H_
