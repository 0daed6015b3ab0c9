// Node-API glue of lib/names/parse.ts.
#ifndef ORIGINAL_DST_GLUE_NAMES_GLUE_H_
#define ORIGINAL_DST_GLUE_NAMES_GLUE_H_

#include <napi.h>

#include "names/first_bytes.h"

namespace original_dst {

class NamesGlue {
 public:
  // Adds parseFirstBytes and `firstBytes`, the memory of its answer, to the exports. False where
  // there is no memory. Must outlive the environment's last call.
  bool init(Napi::Env env, Napi::Object exports);
  // Where TypeScript reads the answer.
  FirstBytes* answer() { return answer_; }

 private:
  static Napi::Value Parse(const Napi::CallbackInfo& info);

  FirstBytes* answer_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_NAMES_GLUE_H_
