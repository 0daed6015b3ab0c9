// The part of the relay's Node-API side that is about other ways than straight to a destination.
#include <errno.h>

#include <utility>

#include "glue/arguments.h"
#include "glue/relay_glue.h"

namespace original_dst {

namespace {

// In the array of messages.
constexpr uint32_t kGreetingAt = 0;
constexpr uint32_t kPasswordAt = 1;
constexpr uint32_t kFirstRequestAt = 2;
constexpr uint32_t kNumbersOfHop = 4;

bool read_bytes(const Napi::Value& value, Route::Bytes* to) {
  if (!value.IsTypedArray()) return false;
  const Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  to->assign(array.Data(), array.Data() + array.ByteLength());
  return true;
}

uint32_t number_at(const Napi::Array& array, uint32_t at) {
  const Napi::Value value = array.Get(at);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

// Returns 0 or -errno.
int read_hops(const Napi::Array& array, Route* route) {
  for (uint32_t at = 0; at + kNumbersOfHop <= array.Length(); at += kNumbersOfHop) {
    Route::Hop hop = {};
    char text[kTextSize];
    size_t length = 0;
    const Napi::Value address = array.Get(at);
    if (napi_get_value_string_utf8(array.Env(), address, text, kTextSize, &length) != napi_ok) {
      return -EINVAL;
    }
    const int status =
        endpoint_parse(text, static_cast<uint16_t>(number_at(array, at + 1)), &hop.at);
    if (status != 0) return status;
    hop.request = static_cast<uint16_t>(number_at(array, at + 2));
    hop.timeout_ms = number_at(array, at + 3);
    const bool asks = route->protocol != ProxyProtocol::kNone;
    if (asks && hop.request >= route->requests.size()) return -EINVAL;
    route->hops.push_back(hop);
  }
  return route->hops.empty() ? -EINVAL : 0;
}

bool read_messages(const Napi::Array& array, Route* route) {
  if (!read_bytes(array.Get(kGreetingAt), &route->greeting) ||
      !read_bytes(array.Get(kPasswordAt), &route->password)) {
    return false;
  }
  for (uint32_t at = kFirstRequestAt; at < array.Length(); at++) {
    route->requests.emplace_back();
    if (!read_bytes(array.Get(at), &route->requests.back())) return false;
  }
  return true;
}

}  // namespace

Napi::Value RelayGlue::MakeRoute(const Napi::CallbackInfo& info) {
  auto* const route = new Route;
  const Route::Ref ref(route);
  const uint32_t protocol = number_argument(info, 1);
  if (!info[0].IsArray() || !info[2].IsArray() ||
      protocol > static_cast<uint32_t>(ProxyProtocol::kHttp)) {
    return Status(-EINVAL);
  }
  route->protocol = static_cast<ProxyProtocol>(protocol);
  if (!read_messages(info[2].As<Napi::Array>(), route)) return Status(-EINVAL);
  route->header = static_cast<uint8_t>(number_argument(info, 3));
  int status = read_hops(info[0].As<Napi::Array>(), route);
  if (status == 0) status = endpoint_argument(info, 4, &route->destination);
  if (status != 0) return Status(status);
  read_bytes(info[6], &route->authority);
  return Napi::External<Route::Ref>::New(env_, new Route::Ref(ref),
                                         [](Napi::Env, Route::Ref* kept) { delete kept; });
}

Route::Ref RelayGlue::RouteOf(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsExternal()) return {};
  return *info[index].As<Napi::External<Route::Ref>>().Data();
}

}  // namespace original_dst
