// Node-API glue of lib/dial/connect.ts and lib/policy/loop-guard.ts.
#ifndef ORIGINAL_DST_GLUE_DIAL_GLUE_H_
#define ORIGINAL_DST_GLUE_DIAL_GLUE_H_

#include <napi.h>

#include "host/port_claims.h"

namespace original_dst {

// `claims` must outlive the environment's last call.
void init_dial(Napi::Env env, Napi::Object exports, PortClaims* claims);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_DIAL_GLUE_H_
