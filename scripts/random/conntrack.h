// Deleting conntrack entries by ctnetlink: all, or one. Much cheaper than starting conntrack(8)
// each time.
#ifndef RANDOM_CONNTRACK_H_
#define RANDOM_CONNTRACK_H_

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "token.h"

// A netlink socket stays with the network namespace that it was opened in.
static inline int conntrack_open(void) {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) {
    perror("socket(NETLINK_NETFILTER)");
    exit(1);
  }
  return fd;
}

struct deletion {
  struct nlmsghdr header;
  struct nfgenmsg family;
  uint8_t attributes[128];
};

static inline void conntrack_send(int fd, struct deletion *message, size_t attributes) {
  message->header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(message->family)) + attributes);
  message->header.nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE;
  message->header.nlmsg_flags = NLM_F_REQUEST;
  message->family.version = NFNETLINK_V0;
  send(fd, message, message->header.nlmsg_len, 0);
  // "No such entry" comes back without having been asked for.
  char answer[512];
  while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0) continue;
}

static inline void conntrack_flush(int fd) {
  struct deletion message = {.family.nfgen_family = AF_UNSPEC};
  conntrack_send(fd, &message, 0);
}

static inline size_t put_attribute(uint8_t *at, uint16_t type, const void *data, size_t size) {
  const struct nlattr head = {(uint16_t)(NLA_HDRLEN + size), type};
  memcpy(at, &head, sizeof(head));
  if (data != NULL) memcpy(at + NLA_HDRLEN, data, size);
  return NLA_ALIGN(NLA_HDRLEN + size);
}

// The entry whose first packet went from `source` to `address`.
static inline void conntrack_forget(int fd, uint8_t protocol, const struct token *flow) {
  struct deletion message = {.family.nfgen_family = flow->family == 4 ? AF_INET : AF_INET6};
  const bool v4 = flow->family == 4;
  const size_t size = v4 ? 4 : 16;
  const uint16_t source_port = htons(flow->source_port);
  const uint16_t port = htons(flow->port);
  uint8_t *const tuple = message.attributes;
  uint8_t *const ip = tuple + NLA_HDRLEN;
  size_t ip_size =
      put_attribute(ip + NLA_HDRLEN, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, flow->source, size);
  ip_size += put_attribute(ip + NLA_HDRLEN + ip_size, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST,
                           flow->address, size);
  put_attribute(ip, CTA_TUPLE_IP | NLA_F_NESTED, NULL, ip_size);
  uint8_t *const proto = ip + NLA_HDRLEN + ip_size;
  size_t proto_size = put_attribute(proto + NLA_HDRLEN, CTA_PROTO_NUM, &protocol, 1);
  proto_size += put_attribute(proto + NLA_HDRLEN + proto_size, CTA_PROTO_SRC_PORT, &source_port, 2);
  proto_size += put_attribute(proto + NLA_HDRLEN + proto_size, CTA_PROTO_DST_PORT, &port, 2);
  put_attribute(proto, CTA_TUPLE_PROTO | NLA_F_NESTED, NULL, proto_size);
  const size_t tuple_size = 2 * NLA_HDRLEN + ip_size + proto_size;
  put_attribute(tuple, CTA_TUPLE_ORIG | NLA_F_NESTED, NULL, tuple_size);
  conntrack_send(fd, &message, NLA_HDRLEN + tuple_size);
}

#endif  // RANDOM_CONNTRACK_H_
