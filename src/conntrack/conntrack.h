// What connection tracking remembers of a flow, asked of the kernel by netlink.
#ifndef ORIGINAL_DST_CONNTRACK_CONNTRACK_H_
#define ORIGINAL_DST_CONNTRACK_CONNTRACK_H_

#include "conntrack/conntrack_message.h"
#include "socket/owned_fd.h"

namespace original_dst {

// Keeps its socket: a new one for each question takes 15 µs instead of 5.
class Conntrack {
 public:
  // socket(NETLINK_NETFILTER), IPCTNL_MSG_CT_GET by the reply tuple. Finds what SO_ORIGINAL_DST
  // cannot be asked for: UDP, MPTCP, and entries in a zone. Needs CAP_NET_ADMIN in the user
  // namespace that owns the network namespace. Returns 0 or -errno: -ENOENT no such entry, -EPERM,
  // -EPROTONOSUPPORT or -EINVAL where the kernel has no ctnetlink.
  int lookup(const ConntrackQuestion& question, ConntrackAnswer* answer);

 private:
  int exchange(const ConntrackQuestion& question, ConntrackAnswer* answer);

  OwnedFd netlink_;
  uint32_t sequence_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_CONNTRACK_H_
