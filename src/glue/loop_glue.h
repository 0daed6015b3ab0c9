// Node-API glue of lib/policy/loop-guard.ts.
#ifndef ORIGINAL_DST_GLUE_LOOP_GLUE_H_
#define ORIGINAL_DST_GLUE_LOOP_GLUE_H_

#include <napi.h>

#include "host/origin.h"
#include "host/port_claims.h"
#include "host/program_locks.h"
#include "host/recent_dials.h"

namespace original_dst {

// What one environment knows of its program. Must outlive the environment's last call.
class LoopGlue {
 public:
  void init(Napi::Env env, Napi::Object exports);
  RecentDials* dials() { return &dials_; }
  // Takes part in the program. Returns 0 or -errno; also if it does already.
  int join(uint32_t first_process);

 private:
  using PortCall = int (LoopGlue::*)(uint64_t network_namespace, uint16_t port);
  template <PortCall call>
  static Napi::Value OnPort(const Napi::CallbackInfo& info);
  static Napi::Value NoteDial(const Napi::CallbackInfo& info);
  int claim(uint64_t where, uint16_t port) { return claims_.claim(where, port); }
  int release(uint64_t where, uint16_t port) { return claims_.release(where, port); }
  int claimed_elsewhere(uint64_t where, uint16_t port) {
    return claims_.claimed_elsewhere(where, port);
  }

  ProgramLocks locks_;
  PortClaims claims_{&locks_};
  RecentDials dials_;
  bool joined_ = false;
  int status_ = 0;  // of joining
};

// What lib/policy/own-dials.ts makes of an origin: 0 elsewhere, -1 a loop, -2 a dial of the
// program's for no known client, above 0 the path of the dial that may follow.
double origin_number(Origin origin, Path path);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_LOOP_GLUE_H_
