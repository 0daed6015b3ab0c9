#include "glue/loop_glue.h"

#include <errno.h>

#include "glue/arguments.h"
#include "host/route.h"
#include "socket/endpoint.h"

namespace original_dst {

namespace {

// (address, mark) → 1, 0 or -errno
Napi::Value IsLocalDestination(const Napi::CallbackInfo& info) {
  char text[kTextSize];
  Endpoint destination;
  int status = text_argument(info, 0, text) ? endpoint_parse(text, 0, &destination) : -EINVAL;
  if (status == 0) status = is_local_destination(destination, number_argument(info, 1));
  return Napi::Number::New(info.Env(), status);
}

}  // namespace

int LoopGlue::join(uint32_t first_process) {
  const int status = locks_.open(first_process);
  if (status != 0 || namespace_ != 0) return status;
  return own_network_namespace(&namespace_);
}

// (the program's first process, port) → what the call answers
template <LoopGlue::PortCall call>
Napi::Value LoopGlue::OnPort(const Napi::CallbackInfo& info) {
  auto* const self = static_cast<LoopGlue*>(info.Data());
  int status = self->join(number_argument(info, 0));
  if (status == 0) status = (self->*call)(static_cast<uint16_t>(number_argument(info, 1)));
  return Napi::Number::New(info.Env(), status);
}

void LoopGlue::init(Napi::Env env, Napi::Object exports) {
  exports["isLocalDestination"] = Napi::Function::New<IsLocalDestination>(env);
  exports["claimPort"] = Napi::Function::New<OnPort<&LoopGlue::claim>>(env, nullptr, this);
  exports["releasePort"] = Napi::Function::New<OnPort<&LoopGlue::release>>(env, nullptr, this);
  exports["portClaimedElsewhere"] =
      Napi::Function::New<OnPort<&LoopGlue::claimed_elsewhere>>(env, nullptr, this);
}

}  // namespace original_dst
