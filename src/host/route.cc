#include "host/route.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "socket/netlink.h"

namespace original_dst {

namespace {

struct Request {
  nlmsghdr header;
  rtmsg route;
  char attributes[RTA_SPACE(16) + 2 * RTA_SPACE(4)];
};

void add_attribute(Request* request, uint16_t type, const void* data, uint16_t length) {
  rtattr* attribute = reinterpret_cast<rtattr*>(reinterpret_cast<char*>(request) +
                                                NLMSG_ALIGN(request->header.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(length));
  memcpy(RTA_DATA(attribute), data, length);
  request->header.nlmsg_len += static_cast<uint32_t>(RTA_SPACE(length));
}

// These are answers about the destination, not failures to ask: no route, or one of the types
// unreachable, prohibit and blackhole (EINVAL).
bool means_not_local(int error) {
  return error == -ENETUNREACH || error == -EHOSTUNREACH || error == -EACCES || error == -EINVAL;
}

// connect(2) to 0.0.0.0 or :: goes to loopback; IPv6's route for :: does not say so.
bool is_unspecified(const Endpoint& endpoint) {
  static constexpr uint8_t kZero[sizeof(endpoint.bytes)] = {};
  return memcmp(endpoint.bytes, kZero, sizeof(kZero)) == 0;
}

}  // namespace

int is_local_destination(const Endpoint& destination, uint32_t mark) {
  if (is_unspecified(destination)) return 1;
  const uint16_t size = destination.family == 4 ? 4 : 16;
  Request request = {};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  request.header.nlmsg_type = RTM_GETROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.route.rtm_family = destination.family == 4 ? AF_INET : AF_INET6;
  request.route.rtm_dst_len = static_cast<uint8_t>(size * 8);
  add_attribute(&request, RTA_DST, destination.bytes, size);
  if (mark != 0) add_attribute(&request, RTA_MARK, &mark, sizeof(mark));
  if (destination.scope != 0) {
    add_attribute(&request, RTA_OIF, &destination.scope, sizeof(destination.scope));
  }
  NetlinkReply reply;
  const int status = ask_netlink(NETLINK_ROUTE, request.header, &reply);
  if (status != 0) return means_not_local(status) ? 0 : status;
  return static_cast<const rtmsg*>(reply.body())->rtm_type == RTN_LOCAL;
}

int change_local_route(const Endpoint& prefix, uint8_t length, bool add) {
  const uint32_t loopback = 1;  // LOOPBACK_IFINDEX: the same in every network namespace
  Request request = {};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  request.header.nlmsg_type = add ? RTM_NEWROUTE : RTM_DELROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  if (add) request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
  request.route.rtm_family = prefix.family == 4 ? AF_INET : AF_INET6;
  request.route.rtm_dst_len = length;
  request.route.rtm_table = RT_TABLE_LOCAL;
  request.route.rtm_protocol = RTPROT_STATIC;
  request.route.rtm_scope = prefix.family == 4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  request.route.rtm_type = RTN_LOCAL;
  add_attribute(&request, RTA_DST, prefix.bytes, prefix.family == 4 ? 4 : 16);
  add_attribute(&request, RTA_OIF, &loopback, sizeof(loopback));
  NetlinkReply reply;
  return ask_netlink(NETLINK_ROUTE, request.header, &reply);
}

}  // namespace original_dst
