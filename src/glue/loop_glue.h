// Node-API glue of lib/policy/loop-guard.ts.
#ifndef ORIGINAL_DST_GLUE_LOOP_GLUE_H_
#define ORIGINAL_DST_GLUE_LOOP_GLUE_H_

#include <napi.h>

#include "host/port_claims.h"
#include "host/program_locks.h"

namespace original_dst {

// What one environment knows of its program. Must outlive the environment's last call.
class LoopGlue {
 public:
  void init(Napi::Env env, Napi::Object exports);

 private:
  using PortCall = int (LoopGlue::*)(uint16_t port);
  template <PortCall call>
  static Napi::Value OnPort(const Napi::CallbackInfo& info);
  int join(uint32_t first_process);
  int claim(uint16_t port) { return claims_.claim(namespace_, port); }
  int release(uint16_t port) { return claims_.release(namespace_, port); }
  int claimed_elsewhere(uint16_t port) { return claims_.claimed_elsewhere(namespace_, port); }

  ProgramLocks locks_;
  PortClaims claims_{&locks_};
  uint32_t namespace_ = 0;  // whose ports this thread's servers have; 0: not asked yet
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_LOOP_GLUE_H_
