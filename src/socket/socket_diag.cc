#include "socket/socket_diag.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

// After <netinet/in.h>, in a block of its own.
#include <linux/inet_diag.h>
#include <linux/mptcp.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>

#include "socket/netlink.h"

namespace original_dst {

namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 query;
};

// The kernel's copy of an IPv4 address is the first word of four.
void copy_address(const Endpoint& from, __be32 (&to)[4]) {
  static_assert(sizeof(to) == sizeof(from.bytes));
  memcpy(to, from.bytes, sizeof(to));
}

Request question(const Endpoint& local, const Endpoint& remote, uint64_t cookie) {
  Request request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.query.sdiag_family = local.family == 4 ? AF_INET : AF_INET6;
  request.query.sdiag_protocol = IPPROTO_TCP;
  request.query.idiag_states = UINT32_MAX;
  // What is above TCP (INET_DIAG_ULP_INFO) is told to those only who ask for tcp_info too.
  request.query.idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1) | 1 << (INET_DIAG_INFO - 1);
  inet_diag_sockid& id = request.query.id;
  id.idiag_sport = htons(local.port);
  id.idiag_dport = htons(remote.port);
  copy_address(local, id.idiag_src);
  copy_address(remote, id.idiag_dst);
  id.idiag_if = remote.scope;
  id.idiag_cookie[0] = static_cast<uint32_t>(cookie);
  id.idiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  return request;
}

// The attribute of this type among those from `at` to `end`; null where there is none.
const rtattr* find_attribute(const void* at, const void* end, uint16_t type) {
  const auto* attribute = static_cast<const rtattr*>(at);
  auto left = static_cast<int>(static_cast<const char*>(end) - static_cast<const char*>(at));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if ((attribute->rta_type & NLA_TYPE_MASK) == type) return attribute;
  }
  return nullptr;
}

// The same among those that an attribute consists of.
const rtattr* find_inside(const rtattr* outer, uint16_t type) {
  if (outer == nullptr) return nullptr;
  const auto* const start = static_cast<const char*>(RTA_DATA(outer));
  return find_attribute(start, start + RTA_PAYLOAD(outer), type);
}

// Word `index` of an attribute; 0 where that is not there.
uint32_t word_of(const rtattr* attribute, size_t index = 0) {
  uint32_t word = 0;
  const size_t at = index * sizeof(word);
  if (attribute == nullptr || RTA_PAYLOAD(attribute) < at + sizeof(word)) return 0;
  memcpy(&word, static_cast<const char*>(RTA_DATA(attribute)) + at, sizeof(word));
  return word;
}

enum class End { kAny, kThis, kOther };

// The address at one end of a socket of that family: any, this one, or another.
End end_of(uint8_t family, const __be32 (&words)[4], const Endpoint& address) {
  constexpr uint8_t kMapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  constexpr uint8_t kAny[16] = {};
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  size_t size = family == AF_INET ? 4 : 16;
  if (memcmp(bytes, kAny, size) == 0) return End::kAny;
  if (size == 16 && address.family == 4) {
    if (memcmp(bytes, kMapped, sizeof(kMapped)) != 0) return End::kOther;
    bytes += sizeof(kMapped);
    size = 4;
  }
  return memcmp(bytes, address.bytes, size) == 0 ? End::kThis : End::kOther;
}

bool may_have_sent(const inet_diag_msg& socket, const void* end, const Endpoint& local,
                   const Endpoint& remote) {
  const uint8_t family = socket.idiag_family;
  const inet_diag_sockid& id = socket.id;
  if (id.idiag_sport != htons(local.port)) return false;
  const End from = end_of(family, id.idiag_src, local);
  if (from == End::kOther) return false;
  const rtattr* const only = find_attribute(&socket + 1, end, INET_DIAG_SKV6ONLY);
  const bool own_family_only =
      only != nullptr && RTA_PAYLOAD(only) > 0 && *static_cast<const uint8_t*>(RTA_DATA(only)) != 0;
  if (family == AF_INET6 && local.family == 4 && own_family_only) return false;
  if (id.idiag_dport == 0) return true;
  return id.idiag_dport == htons(remote.port) && end_of(family, id.idiag_dst, remote) == End::kThis;
}

// What is said of TCP and UDP alike.
DiagSocket described(const inet_diag_msg& socket) {
  const uint32_t* const cookie = socket.id.idiag_cookie;
  return {static_cast<uint64_t>(cookie[1]) << 32 | cookie[0], socket.idiag_inode,
          socket.idiag_state};
}

// Adds to `count` those of one family that may have sent it; the last of them is `found`.
int count_udp_sockets(int netlink, uint8_t family, const Endpoint& local, const Endpoint& remote,
                      unsigned* count, DiagSocket* found) {
  Request request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.query.sdiag_family = family;
  request.query.sdiag_protocol = IPPROTO_UDP;
  request.query.idiag_states = UINT32_MAX;
  // The kernel leaves out those at other ports.
  request.query.id.idiag_sport = htons(local.port);
  if (send(netlink, &request, sizeof(request), 0) < 0) return -errno;
  alignas(nlmsghdr) char bytes[16384];
  for (;;) {
    // What there is to say waits already; more of it comes with each answer that is taken.
    const ssize_t received = recv(netlink, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC);
    if (received < 0) return -errno;
    if (static_cast<size_t>(received) > sizeof(bytes)) return -EMSGSIZE;
    auto left = static_cast<size_t>(received);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(bytes); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return 0;
      if (header->nlmsg_type == NLMSG_ERROR) {
        return static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
      }
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return -EBADMSG;
      const auto* const socket = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      const auto* const end = reinterpret_cast<const char*>(header) + header->nlmsg_len;
      if (!may_have_sent(*socket, end, local, remote)) continue;
      *found = described(*socket);
      ++*count;
    }
  }
}

}  // namespace

int tcp_socket_exists(const Endpoint& local, const Endpoint& remote, uint64_t cookie) {
  const Request request = question(local, remote, cookie);
  NetlinkReply reply;
  const int status = ask_netlink(NETLINK_SOCK_DIAG, request.header, &reply);
  // No such socket, or another one by now.
  if (status == -ENOENT || status == -ESTALE) return 0;
  if (status != 0) return status;
  // Where no connection has the addresses, the kernel goes on to look for a listener.
  return static_cast<const inet_diag_msg*>(reply.body())->idiag_state != TCP_LISTEN;
}

int find_tcp_socket(int netlink, const Endpoint& local, const Endpoint& remote, DiagSocket* found) {
  const Request request = question(local, remote, kAnyCookie);
  NetlinkReply reply;
  const int status = ask_netlink_on(netlink, request.header, &reply);
  if (status != 0) return status;
  const auto* const message = static_cast<const inet_diag_msg*>(reply.body());
  const void* const end = reply.end();
  const rtattr* const memory = find_attribute(message + 1, end, INET_DIAG_SKMEMINFO);
  const rtattr* const protocol = find_attribute(message + 1, end, INET_DIAG_ULP_INFO);
  const rtattr* const mptcp = find_inside(protocol, INET_ULP_INFO_MPTCP);
  const uint32_t flags = word_of(find_inside(mptcp, MPTCP_SUBFLOW_ATTR_FLAGS));
  *found = described(*message);
  found->drops = word_of(memory, SK_MEMINFO_DROPS);
  found->joined = (flags & MPTCP_SUBFLOW_FLAG_JOIN_REM) != 0;
  return 0;
}

int find_udp_socket(int netlink, const Endpoint& local, const Endpoint& remote, DiagSocket* found) {
  unsigned count = 0;
  int status = count_udp_sockets(netlink, AF_INET6, local, remote, &count, found);
  if (status == 0 && local.family == 4) {
    status = count_udp_sockets(netlink, AF_INET, local, remote, &count, found);
  }
  if (status != 0) return status;
  return count == 0 ? -ENOENT : count == 1 ? 0 : -EEXIST;
}

int socket_cookie(int fd, uint64_t* cookie) {
  socklen_t length = sizeof(*cookie);
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &length) == 0 ? 0 : -errno;
}

}  // namespace original_dst
