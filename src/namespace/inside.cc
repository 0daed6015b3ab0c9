#include "namespace/inside.h"

#include <errno.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include "socket/signals_blocked.h"

// SO_NETNS_COOKIE is Linux 5.14's; older headers do not have it.
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace original_dst {

namespace {

constexpr size_t kStackSize = size_t{128} * 1024;

struct Child {
  InsideCall call;
  void* context;
};

int child_main(void* child) {
  const Child* const self = static_cast<const Child*>(child);
  self->call(self->context);
  return 0;
}

struct Entrance {
  int net;
  InsideCall call;
  void* context;
  int status;
};

int enter(int net) {
  if (setns(net, CLONE_NEWNET) == 0) return 0;
  if (errno != EPERM) return -errno;
  // Of its owner: whoever made that has all rights in there, and needs none out here.
  const OwnedFd owner(ioctl(net, NS_GET_USERNS));
  if (!owner.valid() || setns(owner.get(), CLONE_NEWUSER) != 0) return -EPERM;
  return setns(net, CLONE_NEWNET) == 0 ? 0 : -errno;
}

void enter_and_call(void* context) {
  auto* const entrance = static_cast<Entrance*>(context);
  entrance->status = enter(entrance->net);
  if (entrance->status == 0) entrance->call(entrance->context);
}

int cookie_of(int socket, uint64_t* cookie) {
  socklen_t length = sizeof(*cookie);
  return getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &length) == 0 ? 0 : -errno;
}

int cookie_of_thread(uint64_t* cookie) {
  const OwnedFd probe(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return probe.valid() ? cookie_of(probe.get(), cookie) : -errno;
}

// Of a link of nsfs, `net:[4026531840]`. By readlink(2), because the stat(2) that a binary asks for
// today is not there before glibc 2.33.
int inode_of_link(const char* path, uint64_t* inode) {
  char text[64];
  const ssize_t length = readlink(path, text, sizeof(text));
  if (length < 0) return -errno;
  const char* end = text + length;
  const void* bracket = memchr(text, '[', static_cast<size_t>(length));
  if (bracket == nullptr) return -EBADMSG;
  const std::from_chars_result parsed =
      std::from_chars(static_cast<const char*>(bracket) + 1, end, *inode);
  return parsed.ec == std::errc() ? 0 : -EBADMSG;
}

// Not /proc/self, which is the process's first thread: setns(2) moves one thread alone.
int inode_of_thread(uint64_t* inode) { return inode_of_link("/proc/thread-self/ns/net", inode); }

int inode_of(int net, uint64_t* inode) {
  char path[32] = "/proc/thread-self/fd/";
  *std::to_chars(path + strlen(path), path + sizeof(path) - 1, net).ptr = '\0';
  return inode_of_link(path, inode);
}

bool is_socket(int fd) {
  int type = 0;
  socklen_t length = sizeof(type);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

// A descriptor of this thread's own namespace, to enter which again would take a right.
bool is_own(int net) {
  uint64_t there = 0;
  uint64_t here = 0;
  return !is_socket(net) && inode_of(net, &there) == 0 && inode_of_thread(&here) == 0 &&
         there == here;
}

// Before Linux 5.14.
int inode_number(int where, uint64_t* number) {
  if (where < 0) return inode_of_thread(number);
  if (!is_socket(where)) return inode_of(where, number);
  OwnedFd net;
  // Not allowed to ask: a program that may not enter another namespace has its own sockets only.
  if (open_namespace_of(where, &net) != 0) return inode_of_thread(number);
  return inode_of(net.get(), number);
}

}  // namespace

int call_in_child(int namespaces, InsideCall call, void* context) {
  void* const stack = mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return -errno;
  // A handler of this program's, run by the child, would act on this program's memory.
  const SignalsBlocked blocked;
  Child child = {call, context};
  // No signal tells of its end: SIGCHLD is for the children that others have started.
  const int pid = clone(child_main, static_cast<char*>(stack) + kStackSize,
                        CLONE_VM | CLONE_FILES | CLONE_VFORK | namespaces, &child);
  const int status = pid < 0 ? -errno : 0;
  if (pid > 0) waitpid(pid, nullptr, __WCLONE);
  munmap(stack, kStackSize);
  return status;
}

int call_inside(int net, InsideCall call, void* context) {
  Entrance entrance = {net, call, context, -EPERM};
  const int status = call_in_child(0, enter_and_call, &entrance);
  return status != 0 ? status : entrance.status;
}

int call_at(int where, InsideCall call, void* context) {
  uint64_t there = 0;
  uint64_t here = 0;
  int status = 0;
  if (where >= 0) status = namespace_number(where, &there);
  if (where >= 0 && status == 0) status = namespace_number(-1, &here);
  if (status != 0) return status;
  if (there == here) {
    call(context);
    return 0;
  }
  if (!is_socket(where)) return call_inside(where, call, context);
  OwnedFd net;
  status = open_namespace_of(where, &net);
  return status != 0 ? status : call_inside(net.get(), call, context);
}

int open_namespace_of(int socket, OwnedFd* net) {
  net->reset(ioctl(socket, SIOCGSKNS));
  return net->valid() ? 0 : -errno;
}

int open_owner_of(int net, OwnedFd* owner) {
  const int type = ioctl(net, NS_GET_NSTYPE);
  if (type < 0) return -errno;
  if (type != CLONE_NEWNET) return -EINVAL;
  owner->reset(ioctl(net, NS_GET_USERNS));
  return owner->valid() ? 0 : -errno;
}

int namespace_number(int where, uint64_t* number) {
  int status = where < 0 || is_own(where) ? cookie_of_thread(number) : cookie_of(where, number);
  if (status == -ENOTSOCK) {
    // A cookie can be asked for by a socket alone; what is held by its inode is found out in there.
    const auto ask = [](void* to) {
      auto* const cookie = static_cast<uint64_t*>(to);
      if (cookie_of_thread(cookie) != 0) *cookie = 0;
    };
    status = call_inside(where, ask, number);
    if (status == 0 && *number == 0) status = -ENOPROTOOPT;
  }
  return status == -ENOPROTOOPT ? inode_number(where, number) : status;
}

int open_socket_at(int where, int domain, int type, int protocol, OwnedFd* opened) {
  int error = 0;
  const int status = at(where, [&] {
    opened->reset(socket(domain, type | SOCK_CLOEXEC, protocol));
    if (!opened->valid()) error = -errno;
  });
  return status != 0 ? status : error;
}

}  // namespace original_dst
