#include "glue/namespace_glue.h"

#include <errno.h>
#include <sys/socket.h>

// After <sys/socket.h>, in a block of its own.
#include <linux/netlink.h>

#include "glue/arguments.h"
#include "namespace/create.h"
#include "namespace/inside.h"
#include "socket/socket_diag.h"

namespace original_dst {

namespace {

// (without IPv6?) → a descriptor of the namespace, or [-errno, enum CreateStep]
Napi::Value CreateNamespace(const Napi::CallbackInfo& info) {
  OwnedFd net;
  CreateStep failed = kCreateClone;
  const int status = create_namespace(flag_argument(info, 0), &net, &failed);
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
  OwnedFd owner;
  const int status = open_owner_of(fd_argument(info), &owner);
  return Napi::Number::New(info.Env(), status == 0 ? owner.release() : status);
}

// (descriptor of a network namespace, a socket of it, or -1: this thread's) → its number or -errno
Napi::Value NamespaceNumber(const Napi::CallbackInfo& info) {
  uint64_t number = 0;
  const int status = namespace_number(fd_argument(info), &number);
  return Napi::Number::New(info.Env(), status == 0 ? static_cast<double>(number) : status);
}

// (descriptor of a network namespace, a socket of it, or -1: this thread's, address and port of a
// connection's one end, of its other end, UDP?) → the TCP socket that the first end is, or the UDP
// socket that may have sent from there to the other: [inode, cookie, state], or -errno
Napi::Value SocketAt(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Endpoint local;
  Endpoint remote;
  OwnedFd netlink;
  int status = endpoint_argument(info, 1, &local);
  if (status == 0) status = endpoint_argument(info, 3, &remote);
  if (status == 0 && (local.family == 0 || local.family != remote.family)) status = -EINVAL;
  if (status == 0) {
    status = open_socket_at(fd_argument(info), AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, &netlink);
  }
  const auto find = flag_argument(info, 5) ? find_udp_socket : find_tcp_socket;
  DiagSocket found = {};
  if (status == 0) status = find(netlink.get(), local, remote, &found);
  if (status != 0) return Napi::Number::New(env, status);
  const Napi::Array fields = Napi::Array::New(env, 3);
  fields.Set(0u, found.inode);
  fields.Set(1u, Napi::BigInt::New(env, found.cookie));
  fields.Set(2u, static_cast<uint32_t>(found.state));
  return fields;
}

}  // namespace

void init_namespace(Napi::Env env, Napi::Object exports) {
  exports["createNamespace"] = Napi::Function::New<CreateNamespace>(env);
  exports["namespaceOfSocket"] = Napi::Function::New<NamespaceOfSocket>(env);
  exports["namespaceOwner"] = Napi::Function::New<NamespaceOwner>(env);
  exports["socketAt"] = Napi::Function::New<SocketAt>(env);
  exports["namespaceNumber"] = Napi::Function::New<NamespaceNumber>(env);
}

}  // namespace original_dst
