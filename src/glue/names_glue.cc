#include "glue/names_glue.h"

#include <errno.h>

#include "glue/shared_memory.h"

namespace original_dst {

bool NamesGlue::init(Napi::Env env, Napi::Object exports) {
  answer_ = static_cast<FirstBytes*>(shared_memory(env, sizeof(FirstBytes), &buffer_));
  if (answer_ == nullptr) return false;
  exports.Set("firstBytes", buffer_.Value());
  exports.Set("parseFirstBytes", Napi::Function::New(env, Parse, "parseFirstBytes", this));
  return true;
}

// (bytes) → what parse_first_bytes() returns, or -errno; fills firstBytes
Napi::Value NamesGlue::Parse(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray()) return Napi::Number::New(info.Env(), -EINVAL);
  const Napi::Uint8Array bytes = info[0].As<Napi::Uint8Array>();
  const size_t need = parse_first_bytes(bytes.Data(), bytes.ByteLength(),
                                        static_cast<NamesGlue*>(info.Data())->answer());
  return Napi::Number::New(info.Env(), static_cast<double>(need));
}

}  // namespace original_dst
