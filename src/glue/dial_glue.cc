#include "glue/dial_glue.h"

#include "glue/arguments.h"
#include "socket/dial.h"
#include "socket/endpoint.h"
#include "socket/listen.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

int32_t int_argument(const Napi::Value& value, int32_t otherwise) {
  return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : otherwise;
}

uint32_t uint_argument(const Napi::Value& value) {
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

bool flag_argument(const Napi::Value& value) {
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

Napi::Value failure(Napi::Env env, int status, DialStep failed) {
  const Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, status);
  pair.Set(1u, static_cast<uint32_t>(failed));
  return pair;
}

// (family, sourceAddress | null, sourcePort, transparent, freebind, mark | null, interface | null,
// over | -1, network namespace | -1) → a new fd, `over` when that was given and now is the new
// socket, or [-errno, enum DialStep]
Napi::Value OpenDialSocket(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  DialOptions options = {};
  options.family = int_argument(info[0], 0) == 6 ? 6 : 4;
  char source[kTextSize];
  if (text_argument(info, 1, source)) {
    const auto port = static_cast<uint16_t>(uint_argument(info[2]));
    const int status = endpoint_parse(source, port, &options.source);
    if (status != 0) return failure(env, status, kBind);
  }
  options.transparent = flag_argument(info[3]);
  options.freebind = flag_argument(info[4]);
  options.marked = info[5].IsNumber();
  options.mark = uint_argument(info[5]);
  char interface[kTextSize];
  if (text_argument(info, 6, interface)) options.interface = interface;

  const int32_t net = int_argument(info[8], -1);
  if (net >= 0) options.sockets = SuppliedFrom(new SocketSupply(net, 1));

  OwnedFd opened;
  DialStep failed = kNoStep;
  const int status = open_dial_socket(options, &opened, &failed);
  if (status != 0) return failure(env, status, failed);
  const int32_t over = int_argument(info[7], -1);
  if (over < 0) return Napi::Number::New(env, opened.release());
  const int replaced = replace_fd(opened, over);
  return replaced == 0 ? Napi::Number::New(env, over) : failure(env, replaced, kSocket);
}

// (fd) → another one of the same socket, or -errno
Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  OwnedFd duplicate;
  const int status = duplicate_fd(fd_argument(info), &duplicate);
  return Napi::Number::New(info.Env(), status == 0 ? duplicate.release() : status);
}

// (fd) → the errno that its connection has met and nobody has been told of, or 0; forgotten then
Napi::Value TakeError(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), take_error(fd_argument(info)));
}

// (address | null, port, ipv6Only, network namespace) → a socket that is bound, or [-errno, enum
// DialStep]
Napi::Value BindListener(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Endpoint address;
  int status = endpoint_argument(info, 0, &address);
  if (status != 0) return failure(env, status, kBind);
  const ListenOptions options = {-1, false, flag_argument(info[2]), false,
                                 int_argument(info[3], -1)};
  OwnedFd opened;
  DialStep failed = kNoStep;
  const auto port = static_cast<uint16_t>(uint_argument(info[1]));
  status = open_listener(address.family == 0 ? nullptr : &address, port, options, &opened, &failed);
  return status != 0 ? failure(env, status, failed) : Napi::Number::New(env, opened.release());
}

}  // namespace

void init_dial(Napi::Env env, Napi::Object exports) {
  exports["bindListener"] = Napi::Function::New<BindListener>(env);
  exports["openDialSocket"] = Napi::Function::New<OpenDialSocket>(env);
  exports["duplicateFd"] = Napi::Function::New<DuplicateFd>(env);
  exports["takeError"] = Napi::Function::New<TakeError>(env);
}

}  // namespace original_dst
