// Messages of ctnetlink (NETLINK_NETFILTER, NFNL_SUBSYS_CTNETLINK): one question, one answer.
#ifndef ORIGINAL_DST_CONNTRACK_CONNTRACK_MESSAGE_H_
#define ORIGINAL_DST_CONNTRACK_CONNTRACK_MESSAGE_H_

#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// The flow as this host's socket sees it: what it answers has `local` for its source. Or, with the
// client's address for `local`, as the client sees it: an entry is found by either of its tuples.
struct ConntrackQuestion {
  Endpoint local;
  Endpoint peer;
  uint8_t protocol;  // IPPROTO_UDP or IPPROTO_TCP
  uint16_t zone;     // 0 unless the rules assign zones
};

struct ConntrackAnswer {
  Endpoint original;  // where the first packet of the flow was going
  Endpoint client;    // where answers to it go before NAT gives them its own source address back
  uint32_t seconds;  // until the entry times out, rounded down; 0 also when the kernel does not say
  // Of TCP: the packets that it has seen include a handshake, from SYN to ACK, and no reset.
  bool handshake;
};

constexpr size_t kConntrackQuestionSize = 160;

// IPCTNL_MSG_CT_GET by the reply tuple. Returns the length of the message; `local` and `peer` must
// be of the same family.
size_t write_conntrack_question(const ConntrackQuestion& question, uint32_t sequence,
                                uint8_t (&message)[kConntrackQuestionSize]);

// Reads one datagram of netlink. Returns 0; the kernel's own -errno (-ENOENT: no such entry,
// -EPERM); or -EBADMSG when the bytes are no answer to the question of that sequence number.
int parse_conntrack_answer(const uint8_t* message, size_t length, uint32_t sequence,
                           ConntrackAnswer* answer);

// One direction of an entry. Whoever sends in it calls the two ends `local` and `peer`, as in
// ConntrackQuestion.
struct ConntrackDirection {
  Endpoint local;
  Endpoint peer;
};

// An entry that has gone: the direction of its first packet, and the one of the answers.
struct ConntrackDeletion {
  ConntrackDirection directions[2];
  uint8_t protocol;
  bool time_left;  // it did not time out; never true before Linux 5.8, which does not say
};

// Reads one message of NFNLGRP_CONNTRACK_DESTROY. Returns 0 or -EBADMSG.
int parse_conntrack_deletion(const uint8_t* message, size_t length, ConntrackDeletion* deletion);

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_CONNTRACK_MESSAGE_H_
