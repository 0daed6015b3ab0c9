// Memory that C++ and JavaScript both work in.
#ifndef ORIGINAL_DST_GLUE_SHARED_MEMORY_H_
#define ORIGINAL_DST_GLUE_SHARED_MEMORY_H_

#include <napi.h>
#include <stddef.h>

namespace original_dst {

// An ArrayBuffer of so many bytes; `kept` holds it for as long as C++ needs the memory. Null where
// there is none to be had: no memory, or a worker thread that is being terminated, in which nothing
// that could run JavaScript succeeds any more. ArrayBuffer::New() ends the process over that.
inline void* shared_memory(napi_env env, size_t size, Napi::Reference<Napi::ArrayBuffer>* kept) {
  void* memory = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(env, size, &memory, &buffer) != napi_ok) return nullptr;
  *kept = Napi::Persistent(Napi::ArrayBuffer(env, buffer));
  return memory;
}

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_SHARED_MEMORY_H_
