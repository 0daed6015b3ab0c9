// One question to the kernel by netlink(7), and its one answer.
#ifndef ORIGINAL_DST_SOCKET_NETLINK_H_
#define ORIGINAL_DST_SOCKET_NETLINK_H_

#include <sys/socket.h>

// After <sys/socket.h>, in a block of its own.
#include <linux/netlink.h>

namespace original_dst {

struct NetlinkReply {
  alignas(nlmsghdr) char bytes[4096];

  const nlmsghdr* header() const { return reinterpret_cast<const nlmsghdr*>(bytes); }
  const void* body() const { return NLMSG_DATA(header()); }
  const void* end() const { return bytes + header()->nlmsg_len; }
};

// Asks in this thread's network namespace. Returns 0 or -errno, also the kernel's answer when that
// is an error.
int ask_netlink(int protocol, const nlmsghdr& request, NetlinkReply* reply);

// The same over a netlink socket that is open already, in the namespace of that.
int ask_netlink_on(int fd, const nlmsghdr& request, NetlinkReply* reply);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_NETLINK_H_
