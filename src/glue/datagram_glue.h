// Node-API glue of UDP sockets: class DatagramHub (lib/binding.ts).
#ifndef ORIGINAL_DST_GLUE_DATAGRAM_GLUE_H_
#define ORIGINAL_DST_GLUE_DATAGRAM_GLUE_H_

#include <napi.h>

namespace original_dst {

// Adds the class to the addon's exports.
void init_datagram(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_DATAGRAM_GLUE_H_
