// Reading arguments from JavaScript. lib/ has checked them, with messages for people; here anything
// of another type is only kept from being misread.
#ifndef ORIGINAL_DST_GLUE_ARGUMENTS_H_
#define ORIGINAL_DST_GLUE_ARGUMENTS_H_

#include <napi.h>

namespace original_dst {

inline bool flag_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsBoolean() && info[index].As<Napi::Boolean>().Value();
}

inline uint32_t number_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsNumber() ? info[index].As<Napi::Number>().Uint32Value() : 0;
}

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_ARGUMENTS_H_
