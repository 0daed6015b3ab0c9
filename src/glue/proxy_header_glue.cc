#include "glue/proxy_header_glue.h"

#include <errno.h>

#include "socket/proxy_header.h"

namespace original_dst {

namespace {

void set_endpoint(const Napi::Array& fields, uint32_t at, const Endpoint& endpoint) {
  char text[kAddressTextSize];
  const size_t length = endpoint_text(endpoint, text);
  fields.Set(at, Napi::String::New(fields.Env(), text, length));
  fields.Set(at + 1, static_cast<uint32_t>(endpoint.port));
}

// (bytes) → [length, version, where the TLVs begin, and unless it has none: the client's address
// and port, the destination's], how many bytes there must be, or -errno
Napi::Value ParseProxyHeader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray()) return Napi::Number::New(env, -EINVAL);
  const auto array = info[0].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array) return Napi::Number::New(env, -EINVAL);
  const auto bytes = array.As<Napi::Uint8Array>();
  ProxyHeader header;
  const int status = parse_proxy_header(bytes.Data(), bytes.ByteLength(), &header);
  if (status != 0) return Napi::Number::New(env, status);
  const Napi::Array fields = Napi::Array::New(env);
  fields.Set(0u, static_cast<uint32_t>(header.length));
  fields.Set(1u, static_cast<uint32_t>(header.version));
  fields.Set(2u, static_cast<uint32_t>(header.tlv_at));
  if (header.destination.family == 0) return fields;
  set_endpoint(fields, 3, header.client);
  set_endpoint(fields, 5, header.destination);
  return fields;
}

}  // namespace

void init_proxy_header(Napi::Env env, Napi::Object exports) {
  exports["parseProxyHeader"] = Napi::Function::New<ParseProxyHeader>(env);
}

}  // namespace original_dst
