// ICMP's answer to a datagram that nobody takes.
#ifndef ORIGINAL_DST_DATAGRAM_REFUSAL_H_
#define ORIGINAL_DST_DATAGRAM_REFUSAL_H_

#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"
#include "socket/owned_fd.h"

namespace original_dst {

// A datagram as its sender knows it.
struct Refused {
  Endpoint client;
  Endpoint destination;  // of the same family
  uint16_t size;         // of its payload
};

// ICMP's header, the datagram's IP header, eight bytes of it: those of UDP.
constexpr size_t kRefusalSize = 8 + 40 + 8;

// Destination unreachable, port unreachable: RFC 792, RFC 4443 3.1. Returns its length.
size_t write_refusal(const Refused& refused, uint8_t (&message)[kRefusalSize]);

// Sends such answers inside one network namespace. A UDP socket that has called connect(2) gets
// ECONNREFUSED, as from a host where nobody listens.
class Refusals {
 public:
  // socket(SOCK_RAW, IPPROTO_ICMP), and for IPv6, in the namespace of `where` (as of call_at()).
  // For datagrams that NAT has led to a socket of this host: of the answer NAT then changes the
  // outer destination alone, from one address of the host to another. Capability: CAP_NET_RAW in
  // there. Returns 0 or -errno.
  int open(int where);

  // sendto(2). Returns 0 or -errno.
  int send(const Refused& refused) const;

  void close();

 private:
  OwnedFd v4_;
  OwnedFd v6_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_DATAGRAM_REFUSAL_H_
