// Reading arguments from JavaScript. lib/ has checked them, with messages for people; here anything
// of another type is only kept from being misread.
#ifndef ORIGINAL_DST_GLUE_ARGUMENTS_H_
#define ORIGINAL_DST_GLUE_ARGUMENTS_H_

#include <errno.h>
#include <napi.h>
#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

inline bool flag_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsBoolean() && info[index].As<Napi::Boolean>().Value();
}

inline uint32_t number_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : 0;
}

// The number of a place in a table, for anything else one that no table has.
inline uint32_t id_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : UINT32_MAX;
}

// lib/ checks arguments with messages for people. This check only keeps a stray caller of the raw
// binary from acting on fd 0: without C++ exceptions `As<Number>()` of anything else is 0, and so
// is Int32Value() of NaN or of 2³², and 0 is a valid fd.
inline int32_t fd_argument(const Napi::CallbackInfo& info, size_t index = 0) {
  double value = 0;
  if (napi_get_value_double(info.Env(), info[index], &value) != napi_ok) return -1;
  if (!(value >= 0 && value <= INT32_MAX)) return -1;
  const auto fd = static_cast<int32_t>(value);
  return value == fd ? fd : -1;
}

// Longer than any address or interface name that the kernel takes.
constexpr size_t kTextSize = 128;

// Copies a string argument; false when it is no string or does not fit.
inline bool text_argument(const Napi::CallbackInfo& info, size_t index, char (&text)[kTextSize]) {
  if (!info[index].IsString()) return false;
  size_t length = 0;
  const napi_status status =
      napi_get_value_string_utf8(info.Env(), info[index], text, kTextSize, &length);
  return status == napi_ok && length < kTextSize - 1;
}

// An address and, in the next argument, a port; anything but a text leaves family 0. Returns 0 or
// -errno.
inline int endpoint_argument(const Napi::CallbackInfo& info, size_t index, Endpoint* to) {
  *to = {};
  if (!info[index].IsString()) return 0;
  char text[kTextSize];
  if (!text_argument(info, index, text)) return -EINVAL;
  return endpoint_parse(text, static_cast<uint16_t>(number_argument(info, index + 1)), to);
}

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_ARGUMENTS_H_
