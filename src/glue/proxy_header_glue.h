// The Node-API side of the PROXY protocol's parser.
#ifndef ORIGINAL_DST_GLUE_PROXY_HEADER_GLUE_H_
#define ORIGINAL_DST_GLUE_PROXY_HEADER_GLUE_H_

#include <napi.h>

namespace original_dst {

void init_proxy_header(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_PROXY_HEADER_GLUE_H_
