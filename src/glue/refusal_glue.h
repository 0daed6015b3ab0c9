// The Node-API side of ICMP's answers to datagrams.
#ifndef ORIGINAL_DST_GLUE_REFUSAL_GLUE_H_
#define ORIGINAL_DST_GLUE_REFUSAL_GLUE_H_

#include <napi.h>

namespace original_dst {

void init_refusal(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_REFUSAL_GLUE_H_
