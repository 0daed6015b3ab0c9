// Node-API side of relays.
#ifndef ORIGINAL_DST_GLUE_RELAY_GLUE_H_
#define ORIGINAL_DST_GLUE_RELAY_GLUE_H_

#include <napi.h>

#include "host/recent_dials.h"
#include "socket/original_dst.h"

namespace original_dst {

// Adds relayStart and the other functions of relays and of servers that relay to the exports.
// `facts`: the memory that TypeScript decides from. Both outlive every call and every thread.
void init_relay(Napi::Env env, Napi::Object exports, Facts* facts, RecentDials* dials);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_RELAY_GLUE_H_
