#include "glue/relay_glue.h"

#include <errno.h>
#include <string.h>

#include <utility>

#include "glue/arguments.h"
#include "glue/shared_memory.h"
#include "relay/timers.h"
#include "socket/dial.h"

namespace original_dst {

namespace {

constexpr uint32_t kBatch = 256;

static int Hold(Flow& flow, const Napi::Value& bytes) {
  if (!bytes.IsTypedArray()) return 0;
  const Napi::Uint8Array array = bytes.As<Napi::Uint8Array>();
  return flow.hold(array.Data(), array.ByteLength());
}

}  // namespace

Napi::Value RelayGlue::Start(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction() || !info[1].IsFunction() || on_news_ != nullptr) return Status(-EINVAL);
  napi_value name = Napi::String::New(env_, "original-dst.relay");
  if (napi_create_threadsafe_function(env_, info[0], nullptr, name, 0, 1, nullptr, nullptr, this,
                                      OnNews, &on_news_) != napi_ok) {
    return Status(-ENOMEM);
  }
  // Open relays keep the event loop alive, not the mere ability to have some.
  napi_unref_threadsafe_function(env_, on_news_);
  // Hooks run last first: before the thread-safe function's own, so that the threads, which call
  // it, are joined while it still stands.
  napi_add_env_cleanup_hook(
      env_, [](void* self) { static_cast<RelayGlue*>(self)->StopThreads(); }, this);
  on_gone_ = Napi::Persistent(info[1].As<Napi::Function>());
  batch_ = static_cast<uint32_t*>(shared_memory(env_, kBatch * sizeof(uint32_t), &batch_buffer_));
  return batch_ == nullptr ? Status(-ENOMEM) : batch_buffer_.Value();
}

Napi::Value RelayGlue::Slab(const Napi::CallbackInfo&) {
  if (slab_count_ == kMostSlabs) return Status(-ENOMEM);
  Napi::Reference<Napi::ArrayBuffer>& buffer = slab_buffers_[slab_count_];
  void* const slab = shared_memory(env_, kSlabSlots * sizeof(RelaySlot), &buffer);
  if (slab == nullptr) return Status(-ENOMEM);
  slabs_[slab_count_] = static_cast<RelaySlot*>(slab);
  slab_count_++;
  return buffer.Value();
}

Napi::Value RelayGlue::Add(const Napi::CallbackInfo& info) {
  const uint32_t id = id_argument(info, 0);
  const uint32_t index = id_argument(info, 6);
  if (!IsRelay(id, index)) return Status(-EINVAL);
  std::unique_ptr<Relay> relay = NewRelay(id, Limits(info[3]));
  int status = 0;
  for (const RelaySide side : {kClient, kUpstream}) {
    if (status == 0) status = Hold(relay->flows[side], info[4 + side]);
  }
  OwnedFd client;
  OwnedFd upstream;
  if (status == 0) status = StartThread(index);
  if (status == 0) status = duplicate_fd(fd_argument(info, 1), &client);
  if (status == 0) status = duplicate_fd(fd_argument(info, 2), &upstream);
  if (status != 0) return Status(status);
  relay->open(std::move(client), std::move(upstream), kNoneFresh);
  return Status(Give(std::move(relay), index));
}

Napi::Value RelayGlue::Connect(const Napi::CallbackInfo& info) {
  const uint32_t id = id_argument(info, 0);
  const uint32_t index = id_argument(info, 6);
  original_dst::Dial dial = {};
  int status = endpoint_argument(info, 2, &dial.destination);
  if (!IsRelay(id, index) || dial.destination.family == 0) status = -EINVAL;
  if (status == 0) status = endpoint_argument(info, 9, &dial.options.source);
  if (status != 0) return Status(status);
  dial.options.family = dial.destination.family;
  dial.port_fallback = flag_argument(info, 11);
  dial.options.transparent = flag_argument(info, 12);
  dial.options.freebind = flag_argument(info, 13);
  dial.options.marked = info[14].IsNumber();
  dial.options.mark = number_argument(info, 14);
  char interface[kTextSize];
  if (text_argument(info, 15, interface)) dial.options.interface = interface;
  const int net = fd_argument(info, 16);
  if (net >= 0) dial.options.sockets = SuppliedFrom(new SocketSupply(net, 1));

  std::unique_ptr<Relay> relay = NewRelay(id, Limits(info[4]));
  status = Hold(relay->flows[kClient], info[5]);
  OwnedFd client;
  OwnedFd upstream;
  if (status == 0) status = StartThread(index);
  if (status == 0) status = duplicate_fd(fd_argument(info, 1), &client);
  if (status != 0) return Status(status);
  relay->began_us = monotonic_us();
  DialStep failed = kNoStep;
  status = start_dial(dial, &upstream, &failed);
  if (status != 0) {
    relay->slot->step = failed;
    return Status(status);
  }
  // By this thread, which accepts what the dial leads to if it comes back to this program: the
  // relay thread might take note of it too late.
  loop_->join(number_argument(info, 7));
  const double path = info[8].IsNumber() ? info[8].As<Napi::Number>().DoubleValue() : 0;
  relay->note = {loop_->dials(), static_cast<Path>(path), dial.options.transparent, 0};
  relay->note.write(upstream.get(), dial.destination);
  relay->connecting = true;
  relay->open(std::move(client), std::move(upstream), kUpstreamFresh);
  return Status(Give(std::move(relay), index));
}

Napi::Value RelayGlue::Destroy(const Napi::CallbackInfo& info) {
  const uint32_t index = id_argument(info, 1);
  if (index >= kMostThreads || threads_[index] == nullptr) return Status(-EINVAL);
  return Status(threads_[index]->destroy(id_argument(info, 0)));
}

Napi::Value RelayGlue::HopFailures(const Napi::CallbackInfo& info) {
  const uint32_t id = id_argument(info, 0);
  const Napi::Array numbers = Napi::Array::New(env_);
  uint32_t at = 0;
  for (const auto& [relay, failures] : failures_) {
    if (relay != id) continue;
    for (const HopFailure& one : failures) {
      numbers.Set(at++, one.hop);
      numbers.Set(at++, one.step);
      numbers.Set(at++, one.error);
    }
  }
  return numbers;
}

Napi::Value RelayGlue::Ref(const Napi::CallbackInfo& info) {
  if (on_news_ == nullptr || !info[0].IsBoolean()) return Status(-EINVAL);
  if (info[0].As<Napi::Boolean>().Value()) {
    napi_ref_threadsafe_function(env_, on_news_);
  } else {
    napi_unref_threadsafe_function(env_, on_news_);
  }
  return Status(0);
}

Napi::Value RelayGlue::Pair(int first, const Napi::Value& second) const {
  const Napi::Array pair = Napi::Array::New(env_, 2);
  pair.Set(0U, first);
  pair.Set(1U, second);
  return pair;
}

RelayLimits RelayGlue::Limits(const Napi::Value& value) {
  RelayLimits limits = {};
  if (!value.IsTypedArray()) return limits;
  const Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() == sizeof(limits)) memcpy(&limits, array.Data(), sizeof(limits));
  return limits;
}

AdmissionLimits RelayGlue::Most(const Napi::Value& value) {
  AdmissionLimits most = {};
  if (!value.IsTypedArray()) return most;
  const Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() == sizeof(most)) memcpy(&most, array.Data(), sizeof(most));
  return most;
}

std::unique_ptr<Relay> RelayGlue::NewRelay(uint32_t id, RelayLimits limits) const {
  auto relay = std::make_unique<Relay>();
  relay->id = id;
  relay->slot = &slabs_[id / kSlabSlots][id % kSlabSlots];
  *relay->slot = {};
  relay->limits = limits;
  return relay;
}

// To its thread, or, where that fails, back to nobody: its sockets close.
int RelayGlue::Give(std::unique_ptr<Relay> relay, uint32_t index) {
  const int status = threads_[index]->add(relay.get());
  if (status == 0) static_cast<void>(relay.release());
  return status;
}

int RelayGlue::StartThread(uint32_t index) {
  if (threads_[index] != nullptr) return 0;
  std::unique_ptr<RelayThread> thread(new RelayThread(Notify, on_news_));
  const int status = thread->start();
  if (status == 0) threads_[index] = std::move(thread);
  return status;
}

void RelayGlue::StopThreads() {
  for (std::unique_ptr<RelayThread>& thread : threads_) thread.reset();
}

// On a relay thread.
void RelayGlue::Notify(void* closed) {
  napi_call_threadsafe_function(static_cast<napi_threadsafe_function>(closed), nullptr,
                                napi_tsfn_nonblocking);
}

// On the environment's thread. A null environment: it is being torn down, and `self` is gone.
void RelayGlue::OnNews(napi_env env, napi_value callback, void* self, void*) {
  if (env != nullptr) static_cast<RelayGlue*>(self)->Drain(callback);
}

void RelayGlue::Drain(napi_value callback) {
  for (std::unique_ptr<RelayThread>& thread : threads_) {
    if (thread != nullptr) thread->cork();
  }
  DrainClosed(callback);
  for (std::unique_ptr<RelayThread>& thread : threads_) {
    if (thread != nullptr) DrainNews(thread.get());
  }
  for (std::unique_ptr<RelayThread>& thread : threads_) {
    if (thread != nullptr) thread->uncork();
  }
}

void RelayGlue::DrainClosed(napi_value callback) {
  uint32_t count = 0;
  for (std::unique_ptr<RelayThread>& thread : threads_) {
    if (thread == nullptr) continue;
    for (Relay* relay = thread->take_closed(); relay != nullptr;) {
      Relay* const next = relay->next;
      batch_[count++] = relay->id;
      if (relay->onward != nullptr && relay->onward->is_over()) {
        failures_.emplace_back(relay->id, std::move(relay->onward->failures));
      }
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

void RelayGlue::Report(napi_value callback, uint32_t count) {
  napi_value undefined = env_.Undefined();
  napi_value argument = Napi::Number::New(env_, count);
  napi_call_function(env_, undefined, callback, 1, &argument, nullptr);
  failures_.clear();
}

namespace {

template <Napi::Value (RelayGlue::*method)(const Napi::CallbackInfo&)>
Napi::Value call(const Napi::CallbackInfo& info) {
  return (static_cast<RelayGlue*>(info.Data())->*method)(info);
}

template <Napi::Value (RelayGlue::*method)(const Napi::CallbackInfo&)>
void define(Napi::Env env, Napi::Object exports, const char* name, RelayGlue* glue) {
  exports.Set(name, Napi::Function::New(env, call<method>, name, glue));
}

}  // namespace

void init_relay(Napi::Env env, Napi::Object exports, const RelayGlue::Shared& shared) {
  RelayGlue* const glue = new RelayGlue(env, shared);
  napi_add_env_cleanup_hook(
      env, [](void* self) { delete static_cast<RelayGlue*>(self); }, glue);
  define<&RelayGlue::Start>(env, exports, "relayStart", glue);
  define<&RelayGlue::Slab>(env, exports, "relaySlab", glue);
  define<&RelayGlue::Add>(env, exports, "relayAdd", glue);
  define<&RelayGlue::Connect>(env, exports, "relayConnect", glue);
  define<&RelayGlue::Dial>(env, exports, "relayDial", glue);
  define<&RelayGlue::Refuse>(env, exports, "relayRefuse", glue);
  define<&RelayGlue::Take>(env, exports, "relayTake", glue);
  define<&RelayGlue::Watch>(env, exports, "relayWatch", glue);
  define<&RelayGlue::Destroy>(env, exports, "relayDestroy", glue);
  define<&RelayGlue::HopFailures>(env, exports, "relayHopFailures", glue);
  define<&RelayGlue::MakeRoute>(env, exports, "relayRoute", glue);
  define<&RelayGlue::Ref>(env, exports, "relayRef", glue);
  define<&RelayGlue::Listen>(env, exports, "relayListen", glue);
  define<&RelayGlue::ListenToo>(env, exports, "relayListenToo", glue);
  define<&RelayGlue::Unlisten>(env, exports, "relayUnlisten", glue);
  define<&RelayGlue::ListenerFd>(env, exports, "relayFd", glue);
  define<&RelayGlue::SetVerdict>(env, exports, "relaySetVerdict", glue);
  define<&RelayGlue::RevokeVerdicts>(env, exports, "relayRevokeVerdicts", glue);
  define<&RelayGlue::SetRecords>(env, exports, "relayRecords", glue);
  define<&RelayGlue::Bounds>(env, exports, "relayBounds", glue);
}

}  // namespace original_dst
