#include "relay/thread.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "relay/inspect.h"
#include "relay/listener.h"
#include "socket/mutex.h"
#include "socket/signals_blocked.h"

namespace original_dst {

namespace {

constexpr size_t kStackSize = size_t{256} * 1024;
constexpr int kEventsAtOnce = 256;

// What epoll keeps of the eventfd: nobody's key.
constexpr uint64_t kWake = 0;
// After these a short read may be followed by the end, an error, or bytes behind urgent data,
// without another edge.
constexpr uint32_t kThorough = EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

}  // namespace

struct RelayThread::Command {
  enum Kind : uint8_t { kAdd, kDestroy, kListen, kUnlisten, kUnlistenAndDestroy, kStop };
  Command* next;
  Relay* relay;
  RelayListener* listener;
  uint32_t id;
  Kind kind;
};

// ---- The other thread's side ----

int RelayThread::start() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return -errno;
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return -errno;
  epoll_event event = {};
  // Edge-triggered, every write(2) is an event of its own, and nobody has to read the counter.
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kWake;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) return -errno;
  tools_.scratch = static_cast<uint8_t*>(malloc(FlowTools::kScratchSize));
  if (tools_.scratch == nullptr) return -ENOMEM;

  // In the thread too, so that the SIGPIPE that splice(2) raises (it has no MSG_NOSIGNAL) harms
  // nobody.
  const SignalsBlocked blocked;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  const int error = pthread_create(&thread_, &attributes, entry, this);
  pthread_attr_destroy(&attributes);
  started_ = error == 0;
  // Here, not by the thread itself: whoever looks for it by name finds it from now on.
  if (started_) pthread_setname_np(thread_, "relay");
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
  for (News* one = take_news(); one != nullptr;) {
    News* const next = one->next;
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
  bool first = false;
  {
    const Locked locked(&mutex_);
    first = commands_ == nullptr;
    *commands_tail_ = command;
    commands_tail_ = &command->next;
  }
  if (first && !corked_) wake();
}

void RelayThread::uncork() {
  corked_ = false;
  bool any = false;
  {
    const Locked locked(&mutex_);
    any = commands_ != nullptr;
  }
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

News* RelayThread::take_news() {
  const Locked locked(&mutex_);
  News* const first = first_news_;
  first_news_ = nullptr;
  news_tail_ = &first_news_;
  return first;
}

Relay* RelayThread::take_closed() {
  const Locked locked(&mutex_);
  Relay* const first = closed_;
  closed_ = nullptr;
  closed_tail_ = &closed_;
  return first;
}

int RelayThread::watch_undecided(int fd, uint64_t tag) {
  epoll_event event = {};
  event.events = EPOLLET;  // EPOLLHUP and EPOLLERR are reported unasked
  // The connection is the other thread's, and may be gone when its event is read.
  event.data.u64 = tag << 1 | WatchedTable::kForeign;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void RelayThread::unwatch_undecided(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

// ---- The relay thread ----

// epoll_ctl(2). Returns 0 or -errno.
int RelayThread::watch(int operation, int fd, Watched* one, uint32_t events) {
  if (watched_.enter(one) != 0) return -ENOMEM;
  epoll_event event = {};
  event.events = events;
  event.data.u64 = one->key;
  return epoll_ctl(epoll_.get(), operation, fd, &event) == 0 ? 0 : -errno;
}

void* RelayThread::entry(void* self) {
  static_cast<RelayThread*>(self)->run();
  return nullptr;
}

void RelayThread::run() {
  epoll_event events[kEventsAtOnce];
  while (!stopping_) {
    const int count = wait(events, kEventsAtOnce);
    now_us_ = monotonic_us();
    now_ = now_us_ / 1000;
    bool woken = false;
    // Only noted here: a relay must not go away while events that point to it are still unread.
    for (int i = 0; i < count; i++) {
      const uint64_t key = events[i].data.u64;
      if (key == kWake) {
        woken = true;
        continue;
      }
      if ((key & WatchedTable::kForeign) != 0) {
        on_connection_gone(key >> 1);
        continue;
      }
      Watched* const watched = watched_.find(key);
      if (watched == nullptr) continue;
      if (watched->kind == Watched::kListener) {
        static_cast<RelayListener*>(watched)->ready = true;
      } else if (watched->kind == Watched::kWaiting) {
        note_waiting(static_cast<Waiting*>(watched), events[i].events);
      } else {
        note_events(static_cast<RelayEndpoint*>(watched), events[i].events);
      }
    }
    // First: a command may delete who is in that list.
    serve_waiting();
    if (woken) take_commands();
    serve_listeners();
    tell();
    // Those that were busy when this round began; whoever has more to do queues up again.
    Relay* const last = busy_.last();
    for (bool more = last != nullptr; more && busy_.first() != nullptr;) {
      Relay* const relay = busy_.first();
      more = relay != last;
      busy_.remove(relay);
      serve(relay);
    }
    acknowledge_due(count == 0);
    expire();
    expire_waiting();
    if (records_due_ <= now_) hand_up_records();
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
  if (!news_ && now_ < tell_at_) return;
  notify_(context_);
  news_ = false;
  tell_at_ = UINT64_MAX;
}

int RelayThread::wait_ms() const {
  if (busy_.first() != nullptr) return 0;
  const uint64_t due = std::min(
      {timers_.first_due(), waiting_timers_.first_due(), listeners_due(), records_due_, tell_at_});
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
  if ((events & EPOLLOUT) != 0) {
    end->writable = true;
    relay->flows[other(end->side)].sink_ready();
  }
  if ((events & EPOLLERR) != 0) end->broken = true;
  busy_.add(relay);
}

void RelayThread::take_commands() {
  Command* command = nullptr;
  {
    const Locked locked(&mutex_);
    command = commands_;
    commands_ = nullptr;
    commands_tail_ = &commands_;
  }
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

}  // namespace original_dst
