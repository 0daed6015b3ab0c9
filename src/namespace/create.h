// A new network namespace that lives as long as its descriptors do, without a process in it.
#ifndef ORIGINAL_DST_NAMESPACE_CREATE_H_
#define ORIGINAL_DST_NAMESPACE_CREATE_H_

#include <stdint.h>

#include "socket/owned_fd.h"

namespace original_dst {

// What the making of a namespace can fail at; lib/namespace/create.ts has the names.
enum CreateStep : uint8_t {
  kCreateClone = 0,
  kCreateIdMap = 1,
  kCreateOpen = 2,
  kCreateLoopback = 3,
  kCreateIpv4Only = 4,
};

// clone(2) with CLONE_NEWNET, and with CLONE_NEWUSER where this process may not do so by itself;
// then uid_map(5), in which this user is root, /proc/self/ns/net, and the loopback interface up.
// `ipv4_only`: disable_ipv6 is 1 in there, for the interfaces to come too. Capability: none, where
// user namespaces are for everybody. Returns 0, or -errno and the step that failed.
int create_namespace(bool ipv4_only, OwnedFd* net, CreateStep* failed);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMESPACE_CREATE_H_
