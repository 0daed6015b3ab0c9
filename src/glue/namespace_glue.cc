#include "glue/namespace_glue.h"

#include <errno.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "glue/arguments.h"
#include "namespace/create.h"
#include "namespace/inside.h"

namespace original_dst {

namespace {

// () → a descriptor of the namespace, or [-errno, enum CreateStep]
Napi::Value CreateNamespace(const Napi::CallbackInfo& info) {
  OwnedFd net;
  CreateStep failed = kCreateClone;
  const int status = create_namespace(&net, &failed);
  if (status == 0) return Napi::Number::New(info.Env(), net.release());
  const Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, status);
  pair.Set(1u, static_cast<uint32_t>(failed));
  return pair;
}

// (socket) → a descriptor of its network namespace, or -errno
Napi::Value NamespaceOfSocket(const Napi::CallbackInfo& info) {
  OwnedFd net;
  const int status = open_namespace_of(fd_argument(info), &net);
  return Napi::Number::New(info.Env(), status == 0 ? net.release() : status);
}

// (descriptor of a network namespace) → one of the user namespace that owns it, or -errno: ENOTTY
// is no namespace at all, EINVAL is of another kind
Napi::Value NamespaceOwner(const Napi::CallbackInfo& info) {
  const int net = fd_argument(info);
  const int type = ioctl(net, NS_GET_NSTYPE);
  int owner = type == CLONE_NEWNET ? ioctl(net, NS_GET_USERNS) : -1;
  if (owner < 0) owner = type < 0 || type == CLONE_NEWNET ? -errno : -EINVAL;
  return Napi::Number::New(info.Env(), owner);
}

// (descriptor of a network namespace, a socket of it, or -1: this thread's) → its number or -errno
Napi::Value NamespaceNumber(const Napi::CallbackInfo& info) {
  uint64_t number = 0;
  const int status = namespace_number(fd_argument(info), &number);
  return Napi::Number::New(info.Env(), status == 0 ? static_cast<double>(number) : status);
}

}  // namespace

void init_namespace(Napi::Env env, Napi::Object exports) {
  exports["createNamespace"] = Napi::Function::New<CreateNamespace>(env);
  exports["namespaceOfSocket"] = Napi::Function::New<NamespaceOfSocket>(env);
  exports["namespaceOwner"] = Napi::Function::New<NamespaceOwner>(env);
  exports["namespaceNumber"] = Napi::Function::New<NamespaceNumber>(env);
}

}  // namespace original_dst
