// System calls made in another network namespace, while every thread of this process stays where it
// is.
#ifndef ORIGINAL_DST_NAMESPACE_INSIDE_H_
#define ORIGINAL_DST_NAMESPACE_INSIDE_H_

#include <stddef.h>
#include <stdint.h>

#include "socket/owned_fd.h"

namespace original_dst {

// What runs elsewhere. It has this process's memory and descriptors, and the calling thread waits
// for it: it may do whatever that thread may.
using InsideCall = void (*)(void* context);

// clone(2) with CLONE_VM, CLONE_FILES, CLONE_VFORK and `namespaces` (CLONE_NEW…), 0 for none: a
// child that shares all but its namespaces makes the call and ends. Not setns(2) on this thread:
// a user namespace cannot be entered by a process of several threads, and a thread that does not
// come back would be lost. Returns 0 or -errno of clone(2).
int call_in_child(int namespaces, InsideCall call, void* context);

// The same after setns(2) to the network namespace of `net`, a descriptor of nsfs, by way of the
// user namespace that owns it if need be. Returns 0, or -errno: the call was not made.
int call_inside(int net, InsideCall call, void* context);

// Makes the call in the namespace that `where` is of: a socket of that namespace, a descriptor of
// nsfs, or -1 for this thread's. Without a detour when that is this thread's own.
int call_at(int where, InsideCall call, void* context);

// Any callable as an InsideCall.
template <typename Call>
int at(int where, Call call) {
  return call_at(
      where, [](void* context) { (*static_cast<Call*>(context))(); }, &call);
}

// ioctl(SIOCGSKNS): the network namespace of a socket. Returns 0 or -errno; -EPERM without
// CAP_NET_ADMIN in the user namespace that owns it.
int open_namespace_of(int socket, OwnedFd* net);

// ioctl(NS_GET_USERNS): the user namespace that owns a network namespace. Returns 0 or -errno:
// -ENOTTY is no namespace at all, -EINVAL is of another kind.
int open_owner_of(int net, OwnedFd* owner);

// Which network namespace `where` is of: SO_NETNS_COOKIE, a number that no other namespace gets
// until the next boot, or, before Linux 5.14, the number of its inode, of a socket that of this
// thread's namespace where nothing else can be found out. Returns 0 or -errno.
int namespace_number(int where, uint64_t* number);

// socket(2) in the namespace that `where` is of. SOCK_CLOEXEC is added. Returns 0 or -errno.
int open_socket_at(int where, int domain, int type, int protocol, OwnedFd* opened);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMESPACE_INSIDE_H_
