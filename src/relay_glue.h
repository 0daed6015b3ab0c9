// Node-API side of relays.
#ifndef ORIGINAL_DST_RELAY_GLUE_H_
#define ORIGINAL_DST_RELAY_GLUE_H_

#include <napi.h>

namespace original_dst {

// Adds relayStart, relaySlab, relayAdd, relayDestroy and relayRef to the exports.
void init_relay(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_GLUE_H_
