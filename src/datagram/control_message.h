// The control messages that recvmsg(2) puts beside a datagram.
#ifndef ORIGINAL_DST_DATAGRAM_CONTROL_MESSAGE_H_
#define ORIGINAL_DST_DATAGRAM_CONTROL_MESSAGE_H_

#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

struct Control {
  Endpoint destination;  // IP_ORIGDSTADDR or IPV6_ORIGDSTADDR; family 0: the message was not there
  uint32_t segment;      // UDP_GRO: the length of each datagram but the last; 0: there is one alone
  uint32_t drops;  // SO_RXQ_OVFL: datagrams that the socket had dropped so far; 0 if not there
};

// Reads `length` bytes of msg_control. Returns 0, or -EBADMSG for bytes that are no list of control
// messages; what came before the fault is in `control` all the same.
//
// Not by CMSG_NXTHDR: it trusts the lengths inside of the messages up to a point that differs from
// one libc to the next, and works on a msghdr, which a fuzzer has not got.
int parse_control(const uint8_t* bytes, size_t length, Control* control);

}  // namespace original_dst

#endif  // ORIGINAL_DST_DATAGRAM_CONTROL_MESSAGE_H_
