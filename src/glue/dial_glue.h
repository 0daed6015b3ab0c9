// Node-API glue of lib/dial/connect.ts.
#ifndef ORIGINAL_DST_GLUE_DIAL_GLUE_H_
#define ORIGINAL_DST_GLUE_DIAL_GLUE_H_

#include <napi.h>

namespace original_dst {

void init_dial(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_DIAL_GLUE_H_
