#include "relay/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <utility>

#include "relay/listener.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

constexpr size_t kStackSize = size_t{256} * 1024;
constexpr int kEventsAtOnce = 256;
constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;
// After these a short read may be followed by the end, an error, or bytes behind urgent data,
// without another edge.
constexpr uint32_t kThorough = EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

void store(double* to, uint64_t value) {
  const double number = static_cast<double>(value);
  uint64_t bits;
  memcpy(&bits, &number, sizeof(bits));
  __atomic_store_n(reinterpret_cast<uint64_t*>(to), bits, __ATOMIC_RELAXED);
}

RelaySide other(RelaySide side) { return side == kClient ? kUpstream : kClient; }

}  // namespace

struct RelayThread::Command {
  enum Kind : uint8_t { kAdd, kDestroy, kListen, kUnlisten, kUnlistenAndDestroy, kStop };
  Command* next;
  Relay* relay;
  RelayListener* listener;
  uint32_t id;
  Kind kind;
};

void Relay::open(OwnedFd client, OwnedFd upstream, bool fresh) {
  ends[kClient].fd = std::move(client);
  ends[kUpstream].fd = std::move(upstream);
  for (const RelaySide side : {kClient, kUpstream}) {
    ends[side].relay = this;
    ends[side].side = side;
    // The one that the thread has accepted has it from its listener.
    if (!fresh || side == kUpstream) set_urgent_inline(ends[side].fd.get(), true);
    flows[side].attach(ends[side].fd.get(), ends[other(side)].fd.get(), fresh);
  }
}

// ---- The other thread's side ----

int RelayThread::start() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return -errno;
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return -errno;
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) return -errno;
  tools_.scratch = static_cast<uint8_t*>(malloc(FlowTools::kScratchSize));
  if (tools_.scratch == nullptr) return -ENOMEM;

  // Every signal is blocked in the thread: the program's handlers run where they always ran, and
  // the SIGPIPE that splice(2) raises (it has no MSG_NOSIGNAL) harms nobody.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  const int error = pthread_create(&thread_, &attributes, entry, this);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started_ = error == 0;
  return -error;
}

void RelayThread::stop() {
  if (started_) {
    // Not from the heap: a thread that cannot be stopped for want of memory is no choice.
    Command stop = {nullptr, nullptr, nullptr, 0, Command::kStop};
    post(&stop);
    pthread_join(thread_, nullptr);
    started_ = false;
  }
  for (Relay* relay = take_closed(); relay != nullptr;) {
    Relay* const next = relay->next;
    delete relay;
    relay = next;
  }
  for (Undecided* one = take_undecided(); one != nullptr;) {
    Undecided* const next = one->next;
    delete one;
    one = next;
  }
  free(table_);
  free(tools_.scratch);
  table_ = nullptr;
  tools_.scratch = nullptr;
}

void RelayThread::wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake anyhow.
  if (write(wake_.get(), &one, sizeof(one)) < 0) return;
}

void RelayThread::post(Command* command) {
  command->next = nullptr;
  pthread_mutex_lock(&mutex_);
  const bool first = commands_ == nullptr;
  *commands_tail_ = command;
  commands_tail_ = &command->next;
  pthread_mutex_unlock(&mutex_);
  if (first && !corked_) wake();
}

void RelayThread::uncork() {
  corked_ = false;
  pthread_mutex_lock(&mutex_);
  const bool any = commands_ != nullptr;
  pthread_mutex_unlock(&mutex_);
  if (any) wake();
}

int RelayThread::order(const Command& order) {
  Command* const command = static_cast<Command*>(malloc(sizeof(Command)));
  if (command == nullptr) return -ENOMEM;
  *command = order;
  post(command);
  return 0;
}

int RelayThread::add(Relay* relay) {
  return order({nullptr, relay, nullptr, relay->id, Command::kAdd});
}

// By id and not by pointer: by the time the thread looks, the relay may have closed by itself and
// been deleted. An id that was used again is safe, because commands keep their order.
int RelayThread::destroy(uint32_t id) {
  return order({nullptr, nullptr, nullptr, id, Command::kDestroy});
}

int RelayThread::listen(RelayListener* listener) {
  listener->take_spare();
  return order({nullptr, nullptr, listener, 0, Command::kListen});
}

int RelayThread::unlisten(RelayListener* listener, bool destroy) {
  const Command::Kind kind = destroy ? Command::kUnlistenAndDestroy : Command::kUnlisten;
  return order({nullptr, nullptr, listener, 0, kind});
}

Undecided* RelayThread::take_undecided() {
  pthread_mutex_lock(&mutex_);
  Undecided* const first = undecided_;
  undecided_ = nullptr;
  undecided_tail_ = &undecided_;
  pthread_mutex_unlock(&mutex_);
  return first;
}

Relay* RelayThread::take_closed() {
  pthread_mutex_lock(&mutex_);
  Relay* const first = closed_;
  closed_ = nullptr;
  closed_tail_ = &closed_;
  pthread_mutex_unlock(&mutex_);
  return first;
}

// ---- The relay thread ----

void* RelayThread::entry(void* self) {
  static_cast<RelayThread*>(self)->run();
  return nullptr;
}

void RelayThread::run() {
  pthread_setname_np(pthread_self(), "relay");
  epoll_event events[kEventsAtOnce];
  while (!stopping_) {
    const int count = epoll_wait(epoll_.get(), events, kEventsAtOnce, wait_ms());
    now_ = monotonic_ms();
    bool woken = false;
    // Only noted here: a relay must not go away while events that point to it are still unread.
    for (int i = 0; i < count; i++) {
      auto* const watched = static_cast<Watched*>(events[i].data.ptr);
      if (watched == nullptr) {
        woken = true;
      } else if (watched->listens) {
        static_cast<RelayListener*>(watched)->ready = true;
      } else {
        note_events(static_cast<RelayEndpoint*>(watched), events[i].events);
      }
    }
    if (woken) take_commands();
    serve_listeners();
    tell();
    // Those that were busy when this round began; whoever has more to do queues up again.
    Relay* const last = busy_last_;
    for (bool more = last != nullptr; more && busy_first_ != nullptr;) {
      Relay* const relay = busy_first_;
      more = relay != last;
      dequeue(relay);
      serve(relay);
    }
    expire();
    tell();
  }
  while (listeners_ != nullptr) end_listening(listeners_, true);
  for (size_t id = 0; id < table_size_; id++) {
    if (table_[id] != nullptr) close(table_[id], kRelayAborted, kNeither, 0);
  }
}

// Once for a whole round: told of each piece of news by itself, the other thread would wake, on a
// busy processor in this one's place, for each.
void RelayThread::tell() {
  if (news_) notify_(context_);
  news_ = false;
}

int RelayThread::wait_ms() const {
  if (busy_first_ != nullptr) return 0;
  const Timed* const first = timers_.first();
  const uint64_t due = std::min(first == nullptr ? UINT64_MAX : first->due, resume_at());
  if (due == UINT64_MAX) return -1;
  const uint64_t now = monotonic_ms();
  if (due <= now) return 0;
  return static_cast<int>(std::min<uint64_t>(due - now, INT_MAX));
}

void RelayThread::note_events(RelayEndpoint* end, uint32_t events) {
  Relay* const relay = end->relay;
  if ((events & (EPOLLIN | kThorough)) != 0) {
    relay->flows[end->side].source_ready((events & kThorough) != 0, (events & EPOLLPRI) != 0);
  }
  if ((events & EPOLLOUT) != 0) end->writable = true;
  if ((events & EPOLLOUT) != 0) relay->flows[other(end->side)].sink_ready();
  if ((events & EPOLLERR) != 0) end->broken = true;
  enqueue(relay);
}

void RelayThread::take_commands() {
  uint64_t ignored;
  // The eventfd first: a command posted after the list was taken then makes a new edge.
  if (read(wake_.get(), &ignored, sizeof(ignored)) < 0) ignored = 0;
  pthread_mutex_lock(&mutex_);
  Command* command = commands_;
  commands_ = nullptr;
  commands_tail_ = &commands_;
  pthread_mutex_unlock(&mutex_);
  while (command != nullptr) {
    Command* const next = command->next;
    switch (command->kind) {
      case Command::kAdd:
        begin(command->relay);
        break;
      case Command::kDestroy:
        if (Relay* const relay = find(command->id)) close(relay, kRelayAborted, kNeither, 0);
        break;
      case Command::kListen:
        begin_listening(command->listener);
        break;
      case Command::kUnlisten:
        end_listening(command->listener, false);
        break;
      case Command::kUnlistenAndDestroy:
        end_listening(command->listener, true);
        break;
      case Command::kStop:
        stopping_ = true;
        break;
    }
    if (command->kind != Command::kStop) free(command);
    command = next;
  }
}

void RelayThread::begin(Relay* relay) {
  if (relay->id >= table_size_) {
    const size_t size = std::max<size_t>(table_size_ * 2, relay->id + size_t{64});
    void* const table = realloc(table_, size * sizeof(void*));
    if (table == nullptr) return close(relay, kRelayError, kNeither, ENOMEM);
    table_ = static_cast<Relay**>(table);
    std::fill(table_ + table_size_, table_ + size, nullptr);
    table_size_ = size;
  }
  table_[relay->id] = relay;
  if (relay->dial != nullptr && !start_dialling(relay)) return;
  // Bytes that came along do not wait for an event.
  if (watch(relay)) enqueue(relay);
}

// Returns false when the relay has closed.
bool RelayThread::start_dialling(Relay* relay) {
  const std::unique_ptr<Dial> dial = std::move(relay->dial);
  OwnedFd upstream;
  DialStep failed = kNoStep;
  const int status = start_dial(*dial, &upstream, &failed);
  if (status != 0) {
    relay->slot->step = failed;
    close(relay, kRelayError, kUpstream, -status);
    return false;
  }
  relay->note.write(upstream.get(), dial->destination);
  relay->connecting = true;
  relay->open(std::move(relay->ends[kClient].fd), std::move(upstream), true);
  return true;
}

// Returns false when the relay has closed.
bool RelayThread::watch(Relay* relay) {
  relay->last_activity = now_;
  for (RelayEndpoint& end : relay->ends) {
    epoll_event event = {};
    event.events = kEvents;
    event.data.ptr = static_cast<Watched*>(&end);
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, end.fd.get(), &event) != 0) {
      close(relay, kRelayError, end.side, errno);
      return false;
    }
  }
  return arm(relay);
}

// Returns false while it is still connecting, and when it has closed.
bool RelayThread::has_connected(Relay* relay) {
  for (RelayEndpoint& end : relay->ends) {
    if (!end.broken) continue;
    const int error = take_error(end.fd.get());
    if (error == 0) continue;
    if (end.side == kUpstream) {
      if (relay->listener != nullptr) add_to(&relay->listener->stats->failed, 1);
      if (relay->slot != nullptr) relay->slot->step = kConnect;
    }
    fail(relay, end.side, error);
    return false;
  }
  relay->connecting = !relay->ends[kUpstream].writable;
  return !relay->connecting;
}

// Returns false when the relay has closed.
bool RelayThread::serve_flow(Relay* relay, RelaySide side) {
  Flow& flow = relay->flows[side];
  if (flow.done()) return true;
  switch (flow.pump(tools_, relay->flows[other(side)].done())) {
    case Flow::State::kWaiting:
      return true;
    case Flow::State::kMore:
      enqueue(relay);
      return true;
    case Flow::State::kDone:
      relay->last_activity = now_;
      return arm(relay);
    case Flow::State::kFailed:
      fail(relay, flow.failed_sink() ? other(side) : side, flow.error());
      return false;
  }
  return true;
}

void RelayThread::serve(Relay* relay) {
  if (relay->connecting && !has_connected(relay)) return;
  const uint64_t before = relay->flows[0].moved() + relay->flows[1].moved();
  const bool open = serve_flow(relay, kClient) && serve_flow(relay, kUpstream);
  if (!open) return;
  if (relay->flows[0].moved() + relay->flows[1].moved() != before) {
    relay->last_activity = now_;
    publish(relay);
  }
  if (relay->flows[0].done() && relay->flows[1].done()) {
    return close(relay, kRelayEnd, kNeither, 0);
  }
  if (relay->busy) return;
  // A broken socket that nobody reads from at the moment (its stream has ended, or the other side
  // is slow) would otherwise go unnoticed.
  for (RelayEndpoint& end : relay->ends) {
    if (!end.broken) continue;
    end.broken = false;
    const int error = take_error(end.fd.get());
    if (error != 0) return fail(relay, end.side, error);
  }
}

void RelayThread::expire() {
  for (Timed* first = timers_.first(); first != nullptr && first->due <= now_;
       first = timers_.first()) {
    Relay* const relay = static_cast<Relay*>(first);
    // Arming it anew moves its deadline away, unless nothing has happened since.
    if (arm(relay) && relay->due <= now_) close(relay, kRelayIdle, kNeither, 0);
  }
}

// Returns false when the relay has closed.
bool RelayThread::arm(Relay* relay) {
  uint32_t limit = relay->limits.idle_ms;
  const uint32_t half = relay->limits.half_close_ms;
  const bool half_closed = relay->flows[0].done() || relay->flows[1].done();
  if (half_closed && half != 0) limit = limit == 0 ? half : std::min(limit, half);
  if (limit == 0) return true;
  if (timers_.arm(relay, relay->last_activity + limit) == 0) return true;
  close(relay, kRelayError, kNeither, ENOMEM);
  return false;
}

void RelayThread::fail(Relay* relay, RelaySide side, int error) {
  const bool reset = error == ECONNRESET || error == EPIPE;
  close(relay, reset ? kRelayReset : kRelayError, side, error);
}

void RelayThread::close(Relay* relay, RelayReason reason, RelaySide side, int error) {
  dequeue(relay);
  timers_.disarm(relay);
  publish(relay);
  // An end whose stream was cut must not take it for a whole one, so it gets RST, not FIN.
  const bool broken = reason == kRelayReset || reason == kRelayError;
  for (RelayEndpoint& end : relay->ends) {
    const RelayEndpoint& source = relay->ends[other(end.side)];
    const Flow& flow = relay->flows[source.side];
    if (broken || flow.bytes_underway() || (!flow.done() && has_unread(source.fd.get()))) {
      reset_on_close(end.fd.get());
    }
    // Explicitly, because our descriptor may not be the last one of the socket, and then epoll
    // would go on to report events of a relay that is gone.
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, end.fd.get(), nullptr);
  }
  for (Flow& flow : relay->flows) flow.release(tools_);
  // Not after another end: what is still on its way to us has to be recognised when it arrives.
  if (reason == kRelayEnd) relay->note.forget();
  // Counted before its sockets close: whoever sees the end finds it in the numbers.
  if (relay->listener != nullptr) return forget(relay);
  for (RelayEndpoint& end : relay->ends) end.fd.reset();
  if (find(relay->id) == relay) table_[relay->id] = nullptr;
  relay->slot->reason = reason;
  relay->slot->side = side;
  relay->slot->error = -error;

  relay->next = nullptr;
  pthread_mutex_lock(&mutex_);
  *closed_tail_ = relay;
  closed_tail_ = &relay->next;
  pthread_mutex_unlock(&mutex_);
  news_ = true;
}

void RelayThread::publish(Relay* relay) {
  if (relay->slot == nullptr) return;
  store(&relay->slot->to_upstream, relay->flows[kClient].moved());
  store(&relay->slot->to_client, relay->flows[kUpstream].moved());
}

void RelayThread::enqueue(Relay* relay) {
  if (relay->busy) return;
  relay->busy = true;
  relay->next = nullptr;
  relay->previous = busy_last_;
  (busy_last_ == nullptr ? busy_first_ : busy_last_->next) = relay;
  busy_last_ = relay;
}

void RelayThread::dequeue(Relay* relay) {
  if (!relay->busy) return;
  relay->busy = false;
  (relay->previous == nullptr ? busy_first_ : relay->previous->next) = relay->next;
  (relay->next == nullptr ? busy_last_ : relay->next->previous) = relay->previous;
}

}  // namespace original_dst
