// The part of the relay's Node-API side that is about listeners and the connections to them.
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "glue/arguments.h"
#include "glue/loop_glue.h"
#include "glue/relay_glue.h"
#include "glue/shared_memory.h"
#include "relay/timers.h"
#include "socket/dial.h"
#include "socket/listen.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

// Room for any name, and for the zero behind it.
constexpr size_t kNameSize = sizeof(FirstBytes::name);

// The length of the name in that argument, or 0 where there is none.
uint8_t name_argument(const Napi::CallbackInfo& info, size_t index, char (&name)[kNameSize]) {
  size_t length = 0;
  napi_get_value_string_latin1(info.Env(), info[index], name, kNameSize, &length);
  return static_cast<uint8_t>(length);
}

}  // namespace

Napi::Value RelayGlue::Listen(const Napi::CallbackInfo& info) {
  const uint32_t id = FreeListener();
  if (id == kMostListeners || !info[9].IsFunction()) return Pair(-EMFILE, Status(kNoStep));
  Endpoint address;
  const auto port = static_cast<uint16_t>(number_argument(info, 1));
  int status = endpoint_argument(info, 0, &address);
  if (status != 0) return Pair(status, Status(kBind));
  const bool any = address.family == 0;
  std::unique_ptr<RelayListener> listener(new RelayListener);
  DialStep failed = kNoStep;
  const int given = fd_argument(info, 2);
  const ListenOptions options = {static_cast<int>(number_argument(info, 3)), flag_argument(info, 4),
                                 false, flag_argument(info, 17), fd_argument(info, 13)};
  status = given >= 0
               ? adopt_listener(given, options, &listener->fd, &failed)
               : open_listener(any ? nullptr : &address, port, options, &listener->fd, &failed);
  if (status == 0) {
    failed = kNoStep;
    status = StartThread(0);
  }
  if (status == 0) status = local_endpoint(listener->fd.get(), &answer_->scratch);
  if (status != 0) return Pair(status, Status(failed));
  listener->id = id;
  listener->port = answer_->scratch.port;
  const bool marked = info[5].IsNumber();
  listener->plan = {marked,
                    marked ? number_argument(info, 5) : 0,
                    static_cast<DialPlan::Source>(number_argument(info, 6)),
                    flag_argument(info, 7),
                    dials_,
                    Sockets(fd_argument(info, 14))};
  listener->limits = Limits(info[8]);
  listener->group = new ListenerGroup(Most(info[15]), given < 0 && options.reuse_port);
  listener->shared = flag_argument(info, 16);
  listener->aliases = aliases_;
  if (info[10].IsTypedArray()) Inspect(info, &listener->inspection);
  if (info[18].IsTypedArray()) ExpectHeaders(info, &listener->headers);
  if (info[10].IsTypedArray()) {
    listeners_[id].first_bytes = Napi::Persistent(info[10].As<Napi::Uint8Array>());
  }
  return Begin(std::move(listener), info[9].As<Napi::Function>());
}

Napi::Value RelayGlue::ListenToo(const Napi::CallbackInfo& info) {
  const RelayListener* const first = Listener(info, 0);
  const uint32_t thread = id_argument(info, 1);
  const uint32_t id = FreeListener();
  if (first == nullptr || !info[2].IsFunction() || thread >= kMostThreads) {
    return Pair(-EINVAL, Status(kNoStep));
  }
  if (id == kMostListeners) return Pair(-EMFILE, Status(kNoStep));
  std::unique_ptr<RelayListener> listener(new RelayListener);
  int status = duplicate_fd(first->fd.get(), &listener->fd);
  if (status == 0) status = StartThread(thread);
  if (status != 0) return Pair(status, Status(kNoStep));
  listener->id = id;
  listener->thread = thread;
  listener->port = first->port;
  listener->plan = first->plan;
  listener->limits = first->limits;
  listener->inspection = first->inspection;
  listener->headers = first->headers;
  listener->aliases = first->aliases;
  listener->group = first->group->ref();
  listener->shared = true;
  const Napi::Reference<Napi::Uint8Array>& bytes = listeners_[first->id].first_bytes;
  if (!bytes.IsEmpty()) listeners_[id].first_bytes = Napi::Persistent(bytes.Value());
  return Begin(std::move(listener), info[2].As<Napi::Function>());
}

// Gives it to its thread.
Napi::Value RelayGlue::Begin(std::unique_ptr<RelayListener> listener,
                             const Napi::Function& on_undecided) {
  ListenerSlot& slot = listeners_[listener->id];
  void* const memory = shared_memory(env_, sizeof(ListenerStats), &slot.stats);
  if (memory == nullptr) return Pair(-ENOMEM, Status(kNoStep));
  listener->stats = static_cast<ListenerStats*>(memory);
  *listener->stats = {};
  const int status = threads_[listener->thread]->listen(listener.get());
  if (status != 0) return Pair(status, Status(kNoStep));
  const int id = static_cast<int>(listener->id);
  slot.native = std::move(listener);
  slot.on_undecided = Napi::Persistent(on_undecided);
  return Pair(id, slot.stats.Value());
}

uint32_t RelayGlue::FreeListener() const {
  uint32_t id = 0;
  while (id < kMostListeners && listeners_[id].native != nullptr) id++;
  return id;
}

void RelayGlue::Inspect(const Napi::CallbackInfo& info, Inspection* inspection) {
  inspection->on = true;
  inspection->max_bytes =
      std::min(info[10].As<Napi::Uint8Array>().ByteLength(), FlowTools::kScratchSize);
  inspection->every_port = !info[11].IsTypedArray();
  if (!inspection->every_port) {
    const Napi::Uint16Array ports = info[11].As<Napi::Uint16Array>();
    inspection->ports.assign(ports.Data(), ports.Data() + ports.ElementLength());
  }
  inspection->timeout_ms = number_argument(info, 12);
}

void RelayGlue::ExpectHeaders(const Napi::CallbackInfo& info, ExpectedHeaders* headers) {
  using Range = ExpectedHeaders::Range;
  const Napi::Uint8Array bytes = info[18].As<Napi::Uint8Array>();
  constexpr size_t kSize = 1 + sizeof(Range::first) + sizeof(Range::last);
  for (size_t at = 0; at + kSize <= bytes.ByteLength(); at += kSize) {
    Range range;
    const uint8_t* const from = bytes.Data() + at;
    range.family = from[0];
    memcpy(range.first, from + 1, sizeof(range.first));
    memcpy(range.last, from + 1 + sizeof(range.first), sizeof(range.last));
    headers->from.push_back(range);
  }
  headers->timeout_ms = number_argument(info, 19);
}

SuppliedFrom RelayGlue::Sockets(int net) {
  if (net < 0) return {};
  return SuppliedFrom(new SocketSupply(net));
}

Napi::Value RelayGlue::Unlisten(const Napi::CallbackInfo& info) {
  RelayListener* const listener = Listener(info, 0);
  if (listener == nullptr) return Status(-EINVAL);
  return Status(threads_[listener->thread]->unlisten(listener, flag_argument(info, 1)));
}

Napi::Value RelayGlue::ListenerFd(const Napi::CallbackInfo& info) {
  RelayListener* const listener = Listener(info, 0);
  return Status(listener == nullptr ? -EINVAL : listener->fd.get());
}

Napi::Value RelayGlue::SetVerdict(const Napi::CallbackInfo& info) {
  RelayListener* const listener = Listener(info, 0);
  if (listener == nullptr) return Status(-EINVAL);
  Endpoint destination;
  const int status = endpoint_argument(info, 1, &destination);
  const uint32_t verdict = number_argument(info, 3);
  if (status != 0 || destination.family == 0 || (verdict != kRelayIt && verdict != kResetIt)) {
    return Status(-EINVAL);
  }
  Wanted wanted;
  char name[kNameSize];
  const uint32_t protocol = id_argument(info, 6);
  if (protocol <= kSilent) {
    wanted.protocol = static_cast<uint8_t>(protocol);
    wanted.ech = flag_argument(info, 7) ? 1 : 0;
    wanted.name_length = name_argument(info, 8, name);
    wanted.name = name;
  }
  listener->group->verdicts.set(destination, wanted, static_cast<Verdict>(verdict),
                                monotonic_ms() + number_argument(info, 4), flag_argument(info, 5),
                                RouteOf(info, 9));
  return Status(0);
}

Napi::Value RelayGlue::RevokeVerdicts(const Napi::CallbackInfo& info) {
  RelayListener* const listener = Listener(info, 0);
  if (listener == nullptr) return Status(-EINVAL);
  Endpoint destination;
  const int status = endpoint_argument(info, 1, &destination);
  if (status != 0) return Status(status);
  char name[kNameSize];
  const size_t length = name_argument(info, 3, name);
  if (length > 0) {
    listener->group->verdicts.revoke(name, length);
  } else if (destination.family != 0) {
    listener->group->verdicts.revoke(destination);
  } else {
    listener->group->verdicts.revoke_all();
  }
  return Status(0);
}

Napi::Value RelayGlue::Dial(const Napi::CallbackInfo& info) {
  const uint32_t id = id_argument(info, 0);
  const uint32_t index = id_argument(info, 4);
  const std::unique_ptr<News> decided = undecided_.take(id_argument(info, 1));
  if (decided == nullptr) return Status(-EINVAL);
  Endpoint destination;
  int status = endpoint_argument(info, 2, &destination);
  Route::Ref route = RouteOf(info, 5);
  if (!IsRelay(id, index) || (destination.family == 0 && !route)) status = -EINVAL;
  if (status == 0) status = StartThread(index);
  if (status == 0) {
    std::unique_ptr<Relay> relay = NewRelay(id, decided->limits);
    if (route) {
      relay->onward = std::make_unique<Onward>(
          std::move(route), decided->plan.dial(decided->client), decided->client);
    } else {
      relay->dial =
          std::make_unique<original_dst::Dial>(decided->plan.dial(destination, decided->client));
    }
    relay->note = decided->plan.note(decided->path);
    relay->admission = std::move(decided->admission);
    relay->admission.decided();
    relay->ends[kClient].fd = std::move(decided->fd);
    status = Give(std::move(relay), index);
  }
  if (status != 0) reset_on_close(decided->fd.get());
  return Status(status);
}

Napi::Value RelayGlue::Refuse(const Napi::CallbackInfo& info) {
  const std::unique_ptr<News> decided = undecided_.take(id_argument(info, 0));
  return Status(decided == nullptr ? -EINVAL : reset_on_close(decided->fd.get()));
}

Napi::Value RelayGlue::Take(const Napi::CallbackInfo& info) {
  const std::unique_ptr<News> decided = undecided_.take(id_argument(info, 0));
  if (decided == nullptr) return Status(-EINVAL);
  // As a socket is that Node has accepted.
  set_urgent_inline(decided->fd.get(), false);
  return Status(decided->fd.release());
}

Napi::Value RelayGlue::Watch(const Napi::CallbackInfo& info) {
  const uint32_t token = id_argument(info, 0);
  const News* const one = undecided_.find(token);
  if (one == nullptr) return Status(-EINVAL);
  return Status(undecided_.watch(token, threads_[one->thread].get()));
}

// A callback may close a listener, and its slot may be another's by the next one.
void RelayGlue::DrainNews(RelayThread* thread) {
  News* const news = thread->take_news();
  // After the news: with that of a listener's end its last records are there.
  Records records;
  thread->take_records(&records);
  DrainRecords(&records);
  for (News* next = news; next != nullptr;) {
    std::unique_ptr<News> one(next);
    next = one->next;
    const Napi::HandleScope scope(env_);
    if (one->kind == News::kGone) {
      uint32_t token = 0;
      if (undecided_.is_current(one->tag, &token)) {
        on_gone_.Call({Napi::Number::New(env_, token)});
      }
      continue;
    }
    ListenerSlot& slot = listeners_[one->listener->id];
    const Napi::Function callback = slot.on_undecided.Value();
    if (one->kind == News::kOver) {
      slot = ListenerSlot();
      callback.Call({Status(-1), Status(0), Status(0), Status(0), Status(-1)});
      continue;
    }
    answer_->facts = one->facts;
    const Napi::Value status = Status(one->status);
    // On this thread, and so after what it has dialled is noted: the relay thread, which wakes as
    // soon as connect(2) has sent its packet, would often be too early to know.
    const Endpoint& destination = likely_destination(one->facts);
    const Origin from = one->listener->origin(one->fd.get(), one->facts, destination, &one->path);
    const Napi::Value origin = Napi::Number::New(env_, origin_number(from, one->path));
    int size = -1;
    Napi::Value header = env_.Undefined();
    if (one->seen != nullptr && one->seen->proxied != nullptr) {
      const Proxied& proxied = *one->seen->proxied;
      header = Napi::Buffer<uint8_t>::Copy(env_, proxied.bytes.get(), proxied.size);
    }
    if (one->seen != nullptr && one->seen->looked) {
      size = static_cast<int>(one->seen->size);
      *first_ = one->seen->first;
      memcpy(slot.first_bytes.Value().Data(), one->seen->bytes.get(), one->seen->size);
    }
    one->seen.reset();
    const Napi::Value fd = Status(one->fd.get());
    // How long ago it was accepted, in milliseconds, for its record.
    const double age = one->listener->recorded()
                           ? static_cast<double>(monotonic_us() - one->accepted_us) / 1000
                           : 0;
    callback.Call({Napi::Number::New(env_, undecided_.put(std::move(one))), status, origin,
                   Status(size), fd, header, Napi::Number::New(env_, age)});
  }
}

RelayListener* RelayGlue::Listener(const Napi::CallbackInfo& info, size_t index) const {
  const uint32_t id = id_argument(info, index);
  return id < kMostListeners ? listeners_[id].native.get() : nullptr;
}

}  // namespace original_dst
