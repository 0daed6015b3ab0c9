#include "glue/relay_glue.h"

#include <errno.h>
#include <fcntl.h>

#include <memory>
#include <utility>
#include <vector>

#include "glue/loop_glue.h"
#include "glue/shared_memory.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/listen.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

constexpr uint32_t kMostThreads = 64;
constexpr uint32_t kSlabSlots = 2048;
constexpr uint32_t kMostSlabs = 256;
constexpr uint32_t kBatch = 256;
constexpr uint32_t kMostListeners = 64;
constexpr size_t kTextSize = 128;

// Connections that TypeScript is deciding about, by token.
class Pending {
 public:
  uint32_t put(std::unique_ptr<Undecided> one) {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(waiting_.size()));
      waiting_.emplace_back();
    }
    const uint32_t token = free_.back();
    free_.pop_back();
    waiting_[token] = std::move(one);
    return token;
  }

  // Null for a token that is nobody's.
  std::unique_ptr<Undecided> take(uint32_t token) {
    if (token >= waiting_.size() || waiting_[token] == nullptr) return nullptr;
    free_.push_back(token);
    return std::move(waiting_[token]);
  }

 private:
  std::vector<std::unique_ptr<Undecided>> waiting_;
  std::vector<uint32_t> free_;
};

// All relays of one environment. Made with the exports and deleted by the environment's cleanup.
class RelayGlue {
 public:
  RelayGlue(Napi::Env env, Facts* facts, RecentDials* dials)
      : env_(env), facts_(facts), dials_(dials) {}

  // (onClosed: (count: number) => void) → the memory in which `count` ids of closed relays are
  // left before each call, or -errno
  Napi::Value Start(const Napi::CallbackInfo& info) {
    if (!info[0].IsFunction() || closed_ != nullptr) return Status(-EINVAL);
    napi_value name = Napi::String::New(env_, "original-dst.relay");
    if (napi_create_threadsafe_function(env_, info[0], nullptr, name, 0, 1, nullptr, nullptr, this,
                                        OnClosed, &closed_) != napi_ok) {
      return Status(-ENOMEM);
    }
    // Open relays keep the event loop alive, not the mere ability to have some.
    napi_unref_threadsafe_function(env_, closed_);
    // Hooks run last first: before the thread-safe function's own, so that the threads, which call
    // it, are joined while it still stands.
    napi_add_env_cleanup_hook(
        env_, [](void* self) { static_cast<RelayGlue*>(self)->StopThreads(); }, this);
    batch_ = static_cast<uint32_t*>(shared_memory(env_, kBatch * sizeof(uint32_t), &batch_buffer_));
    return batch_ == nullptr ? Status(-ENOMEM) : batch_buffer_.Value();
  }

  // () → memory for the next relays' slots (struct RelaySlot), or -errno
  Napi::Value Slab(const Napi::CallbackInfo&) {
    if (slab_count_ == kMostSlabs) return Status(-ENOMEM);
    Napi::Reference<Napi::ArrayBuffer>& buffer = slab_buffers_[slab_count_];
    void* const slab = shared_memory(env_, kSlabSlots * sizeof(RelaySlot), &buffer);
    if (slab == nullptr) return Status(-ENOMEM);
    slabs_[slab_count_] = static_cast<RelaySlot*>(slab);
    slab_count_++;
    return buffer.Value();
  }

  // (id, client fd, upstream fd, idle ms, half-close ms, bytes for the upstream | undefined, bytes
  // for the client | undefined, thread) → 0 or -errno. The descriptors are duplicated and stay the
  // caller's.
  Napi::Value Add(const Napi::CallbackInfo& info) {
    const uint32_t id = Number(info[0]);
    const uint32_t index = Number(info[7]);
    if (id / kSlabSlots >= slab_count_ || index >= kMostThreads) return Status(-EINVAL);
    std::unique_ptr<Relay> relay = NewRelay(id, {Number(info[3]), Number(info[4])});
    int status = 0;
    for (const RelaySide side : {kClient, kUpstream}) {
      if (status == 0) status = Hold(relay->flows[side], info[5 + side]);
    }
    if (status == 0) status = StartThread(index);
    if (status != 0) return Status(status);
    OwnedFd client(fcntl(Descriptor(info[1]), F_DUPFD_CLOEXEC, 0));
    if (!client.valid()) return Status(-errno);
    OwnedFd upstream(fcntl(Descriptor(info[2]), F_DUPFD_CLOEXEC, 0));
    if (!upstream.valid()) return Status(-errno);
    relay->open(std::move(client), std::move(upstream), false);
    return Status(Give(std::move(relay), index));
  }

  // (id, token of an undecided connection, address, port, thread) → 0 or -errno, and then the
  // connection has been sent RST. Dials, and relays.
  Napi::Value Dial(const Napi::CallbackInfo& info) {
    const uint32_t id = Number(info[0]);
    const uint32_t index = Number(info[4]);
    const std::unique_ptr<Undecided> decided = pending_.take(Number(info[1]));
    if (decided == nullptr) return Status(-EINVAL);
    Endpoint destination;
    int status = ParseEndpoint(info[2], info[3], &destination);
    if (id / kSlabSlots >= slab_count_ || index >= kMostThreads) status = -EINVAL;
    if (status == 0) status = StartThread(index);
    if (status == 0) {
      std::unique_ptr<Relay> relay = NewRelay(id, decided->limits);
      relay->dial = std::make_unique<original_dst::Dial>(
          decided->plan.dial(destination, decided->facts.peer));
      relay->note = decided->plan.note(decided->path);
      relay->ends[kClient].fd = std::move(decided->fd);
      status = Give(std::move(relay), index);
    }
    if (status != 0) reset_on_close(decided->fd.get());
    return Status(status);
  }

  // (token) → 0 or -errno. Sends RST.
  Napi::Value Refuse(const Napi::CallbackInfo& info) {
    const std::unique_ptr<Undecided> decided = pending_.take(Number(info[0]));
    return Status(decided == nullptr ? -EINVAL : reset_on_close(decided->fd.get()));
  }

  // (token) → the descriptor, now the caller's, or -errno
  Napi::Value Take(const Napi::CallbackInfo& info) {
    const std::unique_ptr<Undecided> decided = pending_.take(Number(info[0]));
    if (decided == nullptr) return Status(-EINVAL);
    // As a socket is that Node has accepted.
    set_urgent_inline(decided->fd.get(), false);
    return Status(decided->fd.release());
  }

  // (id, thread) → 0 or -errno
  Napi::Value Destroy(const Napi::CallbackInfo& info) {
    const uint32_t index = Number(info[1]);
    if (index >= kMostThreads || threads_[index] == nullptr) return Status(-EINVAL);
    return Status(threads_[index]->destroy(Number(info[0])));
  }

  // (on): does the possibility of a closed relay keep the event loop alive?
  Napi::Value Ref(const Napi::CallbackInfo& info) {
    if (closed_ == nullptr || !info[0].IsBoolean()) return Status(-EINVAL);
    if (info[0].As<Napi::Boolean>().Value()) {
      napi_ref_threadsafe_function(env_, closed_);
    } else {
      napi_unref_threadsafe_function(env_, closed_);
    }
    return Status(0);
  }

  // (address | null, port, transparent, mark | null, enum DialPlan::Source, port fallback, idle ms,
  // half-close ms, onUndecided: (token, status, origin) => void) → [listener, memory of its struct
  // ListenerStats] and the bound address in facts.local, or [-errno, enum DialStep]. Each
  // connection that there is no verdict about is given to onUndecided, with what readFacts answers
  // and fills and what originOf answers, and its token goes to Dial, Refuse or Take; -1 says that
  // the listener was closed and no relay of its is left.
  Napi::Value Listen(const Napi::CallbackInfo& info) {
    uint32_t id = 0;
    while (id < kMostListeners && listeners_[id].native != nullptr) id++;
    if (id == kMostListeners || !info[8].IsFunction()) return Pair(-EMFILE, Status(kNoStep));
    Endpoint address;
    const bool any = !info[0].IsString();
    const auto port = static_cast<uint16_t>(Number(info[1]));
    int status = any ? 0 : ParseEndpoint(info[0], info[1], &address);
    if (status != 0) return Pair(status, Status(kBind));
    std::unique_ptr<RelayListener> listener(new RelayListener);
    DialStep failed = kNoStep;
    status = open_listener(any ? nullptr : &address, port, Flag(info[2]), &listener->fd, &failed);
    if (status == 0) {
      failed = kNoStep;
      status = StartThread(0);
    }
    if (status == 0) status = local_endpoint(listener->fd.get(), &facts_->local);
    if (status != 0) return Pair(status, Status(failed));
    Napi::Reference<Napi::ArrayBuffer> stats;
    void* const memory = shared_memory(env_, sizeof(ListenerStats), &stats);
    if (memory == nullptr) return Pair(-ENOMEM, Status(kNoStep));
    listener->id = id;
    listener->port = facts_->local.port;
    const bool marked = info[3].IsNumber();
    listener->plan = {marked, marked ? Number(info[3]) : 0,
                      static_cast<DialPlan::Source>(Number(info[4])), Flag(info[5]), dials_};
    listener->limits = {Number(info[6]), Number(info[7])};
    listener->stats = static_cast<ListenerStats*>(memory);
    *listener->stats = {};
    status = threads_[0]->listen(listener.get());
    if (status != 0) return Pair(status, Status(kNoStep));
    listeners_[id].native = std::move(listener);
    listeners_[id].stats = std::move(stats);
    listeners_[id].on_undecided = Napi::Persistent(info[8].As<Napi::Function>());
    return Pair(static_cast<int>(id), listeners_[id].stats.Value());
  }

  // (listener, destroy: are its relays to be closed too?) → 0 or -errno
  Napi::Value Unlisten(const Napi::CallbackInfo& info) {
    RelayListener* const listener = Listener(info[0]);
    if (listener == nullptr) return Status(-EINVAL);
    return Status(threads_[0]->unlisten(listener, Flag(info[1])));
  }

  // (listener, address, port, verdict: 1 relay | 2 reset | 0 ask again, for how many ms) → 0 or
  // -errno
  Napi::Value SetVerdict(const Napi::CallbackInfo& info) {
    RelayListener* const listener = Listener(info[0]);
    if (listener == nullptr) return Status(-EINVAL);
    Endpoint destination;
    const int status = ParseEndpoint(info[1], info[2], &destination);
    if (status != 0) return Status(status);
    const uint32_t verdict = Number(info[3]);
    if (verdict == kRelayIt || verdict == kResetIt) {
      listener->verdicts.set(destination, static_cast<Verdict>(verdict),
                             monotonic_ms() + Number(info[4]));
    } else {
      listener->verdicts.revoke(destination);
    }
    return Status(0);
  }

  // (listener) → 0 or -errno
  Napi::Value RevokeVerdicts(const Napi::CallbackInfo& info) {
    RelayListener* const listener = Listener(info[0]);
    if (listener == nullptr) return Status(-EINVAL);
    listener->verdicts.revoke_all();
    return Status(0);
  }

 private:
  Napi::Value Status(int status) const { return Napi::Number::New(env_, status); }

  Napi::Value Pair(int first, const Napi::Value& second) const {
    const Napi::Array pair = Napi::Array::New(env_, 2);
    pair.Set(0U, first);
    pair.Set(1U, second);
    return pair;
  }

  static uint32_t Number(const Napi::Value& value) {
    return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : UINT32_MAX;
  }

  // Without C++ exceptions `As<Number>()` of anything else is 0, which is a valid descriptor.
  static int Descriptor(const Napi::Value& value) {
    return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : -1;
  }

  static bool Flag(const Napi::Value& value) {
    return value.IsBoolean() && value.As<Napi::Boolean>().Value();
  }

  int ParseEndpoint(const Napi::Value& address, const Napi::Value& port, Endpoint* to) const {
    char text[kTextSize];
    size_t length = 0;
    if (!address.IsString() ||
        napi_get_value_string_utf8(env_, address, text, sizeof(text), &length) != napi_ok) {
      return -EINVAL;
    }
    return endpoint_parse(text, static_cast<uint16_t>(Number(port)), to);
  }

  std::unique_ptr<Relay> NewRelay(uint32_t id, RelayLimits limits) const {
    auto relay = std::make_unique<Relay>();
    relay->id = id;
    relay->slot = &slabs_[id / kSlabSlots][id % kSlabSlots];
    *relay->slot = {};
    relay->limits = limits;
    return relay;
  }

  // To its thread, or, where that fails, back to nobody: its sockets close.
  int Give(std::unique_ptr<Relay> relay, uint32_t index) {
    const int status = threads_[index]->add(relay.get());
    if (status == 0) static_cast<void>(relay.release());
    return status;
  }

  static int Hold(Flow& flow, const Napi::Value& bytes) {
    if (!bytes.IsTypedArray()) return 0;
    const Napi::Uint8Array array = bytes.As<Napi::Uint8Array>();
    return flow.hold(array.Data(), array.ByteLength());
  }

  int StartThread(uint32_t index) {
    if (threads_[index] != nullptr) return 0;
    std::unique_ptr<RelayThread> thread(new RelayThread(Notify, closed_));
    const int status = thread->start();
    if (status == 0) threads_[index] = std::move(thread);
    return status;
  }

  void StopThreads() {
    for (std::unique_ptr<RelayThread>& thread : threads_) thread.reset();
  }

  // On a relay thread.
  static void Notify(void* closed) {
    napi_call_threadsafe_function(static_cast<napi_threadsafe_function>(closed), nullptr,
                                  napi_tsfn_nonblocking);
  }

  // On the environment's thread. A null environment: it is being torn down, and `self` is gone.
  static void OnClosed(napi_env env, napi_value callback, void* self, void*) {
    if (env != nullptr) static_cast<RelayGlue*>(self)->Drain(callback);
  }

  void Drain(napi_value callback) {
    for (std::unique_ptr<RelayThread>& thread : threads_) {
      if (thread != nullptr) thread->cork();
    }
    DrainClosed(callback);
    DrainUndecided();
    for (std::unique_ptr<RelayThread>& thread : threads_) {
      if (thread != nullptr) thread->uncork();
    }
  }

  void DrainClosed(napi_value callback) {
    uint32_t count = 0;
    for (std::unique_ptr<RelayThread>& thread : threads_) {
      if (thread == nullptr) continue;
      for (Relay* relay = thread->take_closed(); relay != nullptr;) {
        Relay* const next = relay->next;
        batch_[count++] = relay->id;
        delete relay;
        relay = next;
        if (count == kBatch) {
          Report(callback, count);
          count = 0;
        }
      }
    }
    if (count > 0) Report(callback, count);
  }

  // A callback may close a listener, and its slot may be another's by the next one.
  void DrainUndecided() {
    if (threads_[0] == nullptr) return;
    for (Undecided* next = threads_[0]->take_undecided(); next != nullptr;) {
      std::unique_ptr<Undecided> one(next);
      next = one->next;
      const Napi::HandleScope scope(env_);
      ListenerSlot& slot = listeners_[one->listener->id];
      const Napi::Function callback = slot.on_undecided.Value();
      if (!one->fd.valid()) {
        slot = ListenerSlot();
        callback.Call({Status(-1), Status(0), Status(0)});
        continue;
      }
      *facts_ = one->facts;
      const Napi::Value status = Status(one->status);
      // On this thread, and so after what it has dialled is noted: the relay thread, which wakes as
      // soon as connect(2) has sent its packet, would often be too early to know.
      const Endpoint& destination = likely_destination(one->facts);
      const Origin from = one->listener->origin(one->fd.get(), one->facts, destination, &one->path);
      const Napi::Value origin = Napi::Number::New(env_, origin_number(from, one->path));
      callback.Call({Napi::Number::New(env_, pending_.put(std::move(one))), status, origin});
    }
  }

  RelayListener* Listener(const Napi::Value& value) const {
    const uint32_t id = Number(value);
    return id < kMostListeners ? listeners_[id].native.get() : nullptr;
  }

  void Report(napi_value callback, uint32_t count) {
    napi_value undefined = env_.Undefined();
    napi_value argument = Napi::Number::New(env_, count);
    napi_call_function(env_, undefined, callback, 1, &argument, nullptr);
  }

  const Napi::Env env_;
  Facts* const facts_;  // what TypeScript decides from, see addon.cc
  RecentDials* const dials_;
  napi_threadsafe_function closed_ = nullptr;
  uint32_t* batch_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> batch_buffer_;
  RelaySlot* slabs_[kMostSlabs] = {};
  Napi::Reference<Napi::ArrayBuffer> slab_buffers_[kMostSlabs];
  uint32_t slab_count_ = 0;
  struct ListenerSlot {
    std::unique_ptr<RelayListener> native;
    Napi::Reference<Napi::ArrayBuffer> stats;
    Napi::FunctionReference on_undecided;
  };
  ListenerSlot listeners_[kMostListeners];
  Pending pending_;
  std::unique_ptr<RelayThread> threads_[kMostThreads];
};

template <Napi::Value (RelayGlue::*method)(const Napi::CallbackInfo&)>
Napi::Value call(const Napi::CallbackInfo& info) {
  return (static_cast<RelayGlue*>(info.Data())->*method)(info);
}

template <Napi::Value (RelayGlue::*method)(const Napi::CallbackInfo&)>
void define(Napi::Env env, Napi::Object exports, const char* name, RelayGlue* glue) {
  exports.Set(name, Napi::Function::New(env, call<method>, name, glue));
}

}  // namespace

void init_relay(Napi::Env env, Napi::Object exports, Facts* facts, RecentDials* dials) {
  RelayGlue* const glue = new RelayGlue(env, facts, dials);
  napi_add_env_cleanup_hook(
      env, [](void* self) { delete static_cast<RelayGlue*>(self); }, glue);
  define<&RelayGlue::Start>(env, exports, "relayStart", glue);
  define<&RelayGlue::Slab>(env, exports, "relaySlab", glue);
  define<&RelayGlue::Add>(env, exports, "relayAdd", glue);
  define<&RelayGlue::Dial>(env, exports, "relayDial", glue);
  define<&RelayGlue::Refuse>(env, exports, "relayRefuse", glue);
  define<&RelayGlue::Take>(env, exports, "relayTake", glue);
  define<&RelayGlue::Destroy>(env, exports, "relayDestroy", glue);
  define<&RelayGlue::Ref>(env, exports, "relayRef", glue);
  define<&RelayGlue::Listen>(env, exports, "relayListen", glue);
  define<&RelayGlue::Unlisten>(env, exports, "relayUnlisten", glue);
  define<&RelayGlue::SetVerdict>(env, exports, "relaySetVerdict", glue);
  define<&RelayGlue::RevokeVerdicts>(env, exports, "relayRevokeVerdicts", glue);
}

}  // namespace original_dst
