// Node-API glue of lib/namespace/.
#ifndef ORIGINAL_DST_GLUE_NAMESPACE_GLUE_H_
#define ORIGINAL_DST_GLUE_NAMESPACE_GLUE_H_

#include <napi.h>

namespace original_dst {

// Adds createNamespace and the other functions of namespaces to the exports.
void init_namespace(Napi::Env env, Napi::Object exports);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_NAMESPACE_GLUE_H_
