#include "glue/loop_glue.h"

#include <errno.h>

#include "glue/arguments.h"
#include "host/route.h"
#include "namespace/inside.h"
#include "socket/endpoint.h"

namespace original_dst {

namespace {

// (address, mark, where as of call_at()) → 1, 0 or -errno
Napi::Value IsLocalDestination(const Napi::CallbackInfo& info) {
  char text[kTextSize];
  Endpoint destination;
  int status = text_argument(info, 0, text) ? endpoint_parse(text, 0, &destination) : -EINVAL;
  if (status != 0) return Napi::Number::New(info.Env(), status);
  const uint32_t mark = number_argument(info, 1);
  int answer = 0;
  status = at(fd_argument(info, 2), [&] { answer = is_local_destination(destination, mark); });
  if (status == 0) status = answer;
  return Napi::Number::New(info.Env(), status);
}

}  // namespace

double origin_number(Origin origin, Path path) {
  if (origin == kOtherListener) return static_cast<double>(path);
  return origin == kElsewhere ? 0 : origin == kLoop ? -1 : -2;
}

int LoopGlue::join(uint32_t first_process) {
  if (joined_) return status_;
  joined_ = true;
  status_ = locks_.open(first_process);
  // Without the table ports are claimed all the same.
  if (status_ == 0) dials_.join(&locks_);
  return status_;
}

// (the program's first process, number of a network namespace, port) → what the call answers
template <LoopGlue::PortCall call>
Napi::Value LoopGlue::OnPort(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<LoopGlue*>(info.Data());
  int status = self->join(number_argument(info, 0));
  const double where = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
  if (!(where >= 0 && where < static_cast<double>(uint64_t{1} << 53)))
    return Napi::Number::New(info.Env(), -EINVAL);
  const auto port = static_cast<uint16_t>(number_argument(info, 2));
  if (status == 0) status = (self->*call)(static_cast<uint64_t>(where), port);
  return Napi::Number::New(info.Env(), status);
}

// (the program's first process, fd after connect(2), address, port, path, transparent)
Napi::Value LoopGlue::NoteDial(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<LoopGlue*>(info.Data());
  const auto port = static_cast<uint16_t>(number_argument(info, 3));
  char text[kTextSize];
  Endpoint destination;
  if (text_argument(info, 2, text) && endpoint_parse(text, port, &destination) == 0 &&
      self->join(number_argument(info, 0)) == 0) {
    const double path = info[4].IsNumber() ? info[4].As<Napi::Number>().DoubleValue() : 0;
    self->dials_.note(static_cast<int>(number_argument(info, 1)), destination,
                      static_cast<Path>(path), flag_argument(info, 5));
  }
  return info.Env().Undefined();
}

void LoopGlue::init(Napi::Env env, Napi::Object exports) {
  exports["isLocalDestination"] = Napi::Function::New<IsLocalDestination>(env);
  exports["claimPort"] = Napi::Function::New<OnPort<&LoopGlue::claim>>(env, nullptr, this);
  exports["releasePort"] = Napi::Function::New<OnPort<&LoopGlue::release>>(env, nullptr, this);
  exports["portClaimedElsewhere"] =
      Napi::Function::New<OnPort<&LoopGlue::claimed_elsewhere>>(env, nullptr, this);
  exports["noteDial"] = Napi::Function::New<NoteDial>(env, nullptr, this);
}

}  // namespace original_dst
