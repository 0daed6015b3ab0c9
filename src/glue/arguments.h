// Reading arguments from JavaScript. lib/ has checked them, with messages for people; here anything
// of another type is only kept from being misread.
#ifndef ORIGINAL_DST_GLUE_ARGUMENTS_H_
#define ORIGINAL_DST_GLUE_ARGUMENTS_H_

#include <napi.h>
#include <stddef.h>

namespace original_dst {

inline bool flag_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsBoolean() && info[index].As<Napi::Boolean>().Value();
}

inline uint32_t number_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : 0;
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

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_ARGUMENTS_H_
