#include "glue/ebpf_glue.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <utility>

#include "glue/arguments.h"
#include "host/route.h"

namespace original_dst {

namespace {

// Longer paths are refused by the kernel too.
constexpr size_t kPathSize = 4096;

// As many as the kernel lets attach at one place.
constexpr uint32_t kMostPrograms = 64;

Napi::Value number(const Napi::CallbackInfo& info, double value) {
  return Napi::Number::New(info.Env(), value);
}

// [-errno, what has failed, the end of the verifier's log]
Napi::Value failed(const Napi::CallbackInfo& info, int status, const BpfFailure& failure) {
  const Napi::Array three = Napi::Array::New(info.Env(), 3);
  three.Set(0u, status);
  three.Set(1u, Napi::String::New(info.Env(), failure.step));
  three.Set(2u, Napi::String::New(info.Env(), failure.log));
  return three;
}

struct Bytes {
  const void* data;
  size_t size;
};

// A typed array of whatever kind; anything else is empty.
Bytes bytes_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsTypedArray()) return {nullptr, 0};
  const auto array = info[index].As<Napi::TypedArray>();
  return {static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset(),
          array.ByteLength()};
}

template <typename T>
const T* items(const Bytes& bytes, size_t* count) {
  *count = bytes.size / sizeof(T);
  return static_cast<const T*>(bytes.data);
}

template <typename T, size_t most>
size_t free_place(const std::unique_ptr<T> (&table)[most]) {
  size_t id = 0;
  while (id < most && table[id] != nullptr) id++;
  return id;
}

// (address, prefix length, add or remove) → 0 or -errno
Napi::Value LocalRoute(const Napi::CallbackInfo& info) {
  char text[kTextSize];
  Endpoint prefix;
  int status = text_argument(info, 0, text) ? endpoint_parse(text, 0, &prefix) : -EINVAL;
  const auto length = static_cast<uint8_t>(number_argument(info, 1));
  if (status == 0) status = change_local_route(prefix, length, flag_argument(info, 2));
  return number(info, status);
}

// (fd of a cgroup's directory, place, those of the cgroups above too?) → numbers or -errno
Napi::Value CgroupPrograms(const Napi::CallbackInfo& info) {
  uint32_t programs[kMostPrograms] = {};
  const int found = bpf_prog_query(fd_argument(info, 0), number_argument(info, 1),
                                   flag_argument(info, 2), programs, kMostPrograms);
  if (found < 0) return number(info, found);
  const uint32_t count = std::min(static_cast<uint32_t>(found), kMostPrograms);
  const Napi::Array array = Napi::Array::New(info.Env(), count);
  for (uint32_t i = 0; i < count; i++) array.Set(i, programs[i]);
  return array;
}

// (number) → what the program is called, or -errno
Napi::Value ProgramName(const Napi::CallbackInfo& info) {
  std::string name;
  const int status = bpf_prog_name(number_argument(info, 0), &name);
  if (status != 0) return number(info, status);
  return Napi::String::New(info.Env(), name);
}

// (UDP socket, program | -1) → 1: from now on the filter has seen whatever is read from the
// socket, 0: that is true of what comes, and not of what waits there; or -errno
Napi::Value FilterSocket(const Napi::CallbackInfo& info) {
  bool waits = false;
  const int status = bpf_filter(fd_argument(info, 0), fd_argument(info, 1), &waits);
  if (status != 0) return number(info, status);
  return number(info, waits ? 0 : 1);
}

}  // namespace

// (fd of the cgroup's directory, struct CaptureConfig, flows of each port | null, struct
// CapturePrefix4s, struct CapturePrefix6s, how many destinations, number of the first alias, path
// of the pins | null, of the bpffs of a token | null) → id or [-errno, step, log]
Napi::Value EbpfGlue::CaptureOpen(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const size_t id = free_place(self->captures_);
  BpfFailure failure;
  if (id == kMost) return failed(info, -EMFILE, failure);
  CaptureOptions options = {};
  const Bytes config = bytes_argument(info, 1);
  if (config.size != sizeof(CaptureConfig)) return failed(info, -EINVAL, failure);
  memcpy(&options.config, config.data, sizeof(CaptureConfig));
  options.cgroup = fd_argument(info, 0);
  const Bytes ports = bytes_argument(info, 2);
  if (ports.size == 65536 * sizeof(uint64_t)) {
    options.ports = static_cast<const uint64_t*>(ports.data);
  }
  options.prefixes4 = items<CapturePrefix4>(bytes_argument(info, 3), &options.prefix4_count);
  options.prefixes6 = items<CapturePrefix6>(bytes_argument(info, 4), &options.prefix6_count);
  options.destinations = number_argument(info, 5);
  options.first =
      info[6].IsNumber() ? static_cast<uint64_t>(info[6].As<Napi::Number>().DoubleValue()) : 1;
  if (info[7].IsString()) options.pin = info[7].As<Napi::String>().Utf8Value();
  if (info[8].IsString()) options.token = info[8].As<Napi::String>().Utf8Value();
  if (options.pin.size() >= kPathSize) return failed(info, -ENAMETOOLONG, failure);

  std::unique_ptr<Capture> capture(new Capture);
  const int status = capture->open(options, &failure);
  if (status != 0) return failed(info, status, failure);
  // As many as there are captures: one of the two tables is never full before the other.
  self->aliases_.add(capture->table());
  self->captures_[id] = std::move(capture);
  return number(info, static_cast<double>(id));
}

// (port) → the descriptor of a program, which stays the capture's: the filter for UDP sockets at
// that port; or -1
Napi::Value EbpfGlue::CaptureFilter(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const auto port = static_cast<uint16_t>(number_argument(info, 0));
  int filter = -1;
  for (const std::unique_ptr<Capture>& capture : self->captures_) {
    if (capture != nullptr && filter < 0) filter = capture->filter(port);
  }
  return number(info, filter);
}

// (id) → [captured, exempt, refused, exhausted, lost, aliases] or undefined
Napi::Value EbpfGlue::CaptureCounts(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const uint32_t id = id_argument(info, 0);
  if (id >= kMost || self->captures_[id] == nullptr) return info.Env().Undefined();
  const struct CaptureCounts counts = self->captures_[id]->counts();
  const uint64_t fields[] = {counts.captured,  counts.exempt, counts.refused,
                             counts.exhausted, counts.lost,   counts.aliases};
  const Napi::Array array = Napi::Array::New(info.Env(), 6);
  for (uint32_t i = 0; i < 6; i++) array.Set(i, static_cast<double>(fields[i]));
  return array;
}

// (id, are the pins to be removed?) → 0 or -errno
Napi::Value EbpfGlue::CaptureDetach(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const uint32_t id = id_argument(info, 0);
  if (id >= kMost || self->captures_[id] == nullptr) return number(info, -EINVAL);
  self->captures_[id]->detach(flag_argument(info, 1));
  return number(info, 0);
}

// (id) → 0 or -errno
Napi::Value EbpfGlue::CaptureClose(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const uint32_t id = id_argument(info, 0);
  if (id >= kMost || self->captures_[id] == nullptr) return number(info, -EINVAL);
  self->aliases_.remove(self->captures_[id]->table());
  self->captures_[id] = nullptr;
  return number(info, 0);
}

// (ports as a Uint16Array, struct CapturePrefix4s, struct CapturePrefix6s, fds of the sockets or
// -1: TCP over IPv4, over IPv6, UDP over IPv4, over IPv6) → id or [-errno, step, log]
Napi::Value EbpfGlue::ListenerOpen(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const size_t id = free_place(self->listeners_);
  BpfFailure failure;
  if (id == kMost) return failed(info, -EMFILE, failure);
  PortListenerOptions options = {};
  options.ports = items<uint16_t>(bytes_argument(info, 0), &options.port_count);
  options.prefixes4 = items<CapturePrefix4>(bytes_argument(info, 1), &options.prefix4_count);
  options.prefixes6 = items<CapturePrefix6>(bytes_argument(info, 2), &options.prefix6_count);
  for (size_t i = 0; i < kListenerSockets; i++) options.sockets[i] = fd_argument(info, 3 + i);
  if (info[7].IsString()) options.token = info[7].As<Napi::String>().Utf8Value();
  std::unique_ptr<PortListener> listener(new PortListener);
  const int status = listener->open(options, &failure);
  if (status != 0) return failed(info, status, failure);
  self->listeners_[id] = std::move(listener);
  return number(info, static_cast<double>(id));
}

// (id) → how many connections and datagrams have been led to the sockets, or undefined
Napi::Value EbpfGlue::ListenerCount(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const uint32_t id = id_argument(info, 0);
  if (id >= kMost || self->listeners_[id] == nullptr) return info.Env().Undefined();
  return number(info, static_cast<double>(self->listeners_[id]->count()));
}

// (id) → 0 or -errno
Napi::Value EbpfGlue::ListenerClose(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<EbpfGlue*>(info.Data());
  const uint32_t id = id_argument(info, 0);
  if (id >= kMost || self->listeners_[id] == nullptr) return number(info, -EINVAL);
  self->listeners_[id] = nullptr;
  return number(info, 0);
}

void EbpfGlue::init(Napi::Env env, Napi::Object exports) {
  exports["localRoute"] = Napi::Function::New<LocalRoute>(env);
  exports["captureOpen"] = Napi::Function::New<CaptureOpen>(env, nullptr, this);
  exports["cgroupPrograms"] = Napi::Function::New<CgroupPrograms>(env);
  exports["programName"] = Napi::Function::New<ProgramName>(env);
  exports["filterSocket"] = Napi::Function::New<FilterSocket>(env);
  exports["captureFilter"] = Napi::Function::New<CaptureFilter>(env, nullptr, this);
  exports["captureCounts"] = Napi::Function::New<CaptureCounts>(env, nullptr, this);
  exports["captureDetach"] = Napi::Function::New<CaptureDetach>(env, nullptr, this);
  exports["captureClose"] = Napi::Function::New<CaptureClose>(env, nullptr, this);
  exports["listenerOpen"] = Napi::Function::New<ListenerOpen>(env, nullptr, this);
  exports["listenerCount"] = Napi::Function::New<ListenerCount>(env, nullptr, this);
  exports["listenerClose"] = Napi::Function::New<ListenerClose>(env, nullptr, this);
}

}  // namespace original_dst
