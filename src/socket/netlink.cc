#include "socket/netlink.h"

#include <errno.h>

#include "socket/owned_fd.h"

namespace original_dst {

int ask_netlink(int protocol, const nlmsghdr& request, NetlinkReply* reply) {
  const OwnedFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  return fd.valid() ? ask_netlink_on(fd.get(), request, reply) : -errno;
}

int ask_netlink_on(int fd, const nlmsghdr& request, NetlinkReply* reply) {
  if (send(fd, &request, request.nlmsg_len, 0) < 0) return -errno;
  // The kernel answers within send(2), and one answer or one error fits: no loop.
  const ssize_t length = recv(fd, reply->bytes, sizeof(reply->bytes), MSG_DONTWAIT);
  if (length < 0) return -errno;
  const nlmsghdr* const header = reply->header();
  if (!NLMSG_OK(header, static_cast<size_t>(length))) return -EBADMSG;
  return header->nlmsg_type == NLMSG_ERROR ? static_cast<const nlmsgerr*>(reply->body())->error : 0;
}

}  // namespace original_dst
