#include "datagram/refusal.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#include "namespace/inside.h"

namespace original_dst {

namespace {

constexpr uint8_t kHops = 64;

// RFC 1071, of an even number of bytes.
uint16_t checksum(const uint8_t* bytes, size_t length) {
  uint32_t sum = 0;
  for (size_t at = 0; at < length; at += 2) {
    uint16_t word;
    memcpy(&word, bytes + at, sizeof(word));
    sum += word;
  }
  sum = (sum >> 16) + (sum & 0xffff);
  return static_cast<uint16_t>(~((sum >> 16) + sum));
}

template <typename Header>
size_t put(const Header& header, size_t at, uint8_t (&message)[kRefusalSize]) {
  memcpy(message + at, &header, sizeof(header));
  return at + sizeof(header);
}

// Both kinds begin with type, code, checksum, and four bytes that are not used.
size_t put_icmp(uint8_t type, uint8_t code, uint8_t (&message)[kRefusalSize]) {
  icmphdr icmp = {};
  icmp.type = type;
  icmp.code = code;
  return put(icmp, 0, message);
}

size_t put_ip(const Refused& refused, uint16_t length, size_t at,
              uint8_t (&message)[kRefusalSize]) {
  iphdr ip = {};
  ip.version = 4;
  ip.ihl = sizeof(ip) / 4;
  ip.tot_len = htons(static_cast<uint16_t>(sizeof(ip) + length));
  ip.ttl = kHops;
  ip.protocol = IPPROTO_UDP;
  memcpy(&ip.saddr, refused.client.bytes, sizeof(ip.saddr));
  memcpy(&ip.daddr, refused.destination.bytes, sizeof(ip.daddr));
  return put(ip, at, message);
}

size_t put_ip6(const Refused& refused, uint16_t length, size_t at,
               uint8_t (&message)[kRefusalSize]) {
  ip6_hdr ip = {};
  ip.ip6_flow = htonl(uint32_t{6} << 28);
  ip.ip6_plen = htons(length);
  ip.ip6_nxt = IPPROTO_UDP;
  ip.ip6_hlim = kHops;
  memcpy(&ip.ip6_src, refused.client.bytes, sizeof(ip.ip6_src));
  memcpy(&ip.ip6_dst, refused.destination.bytes, sizeof(ip.ip6_dst));
  return put(ip, at, message);
}

}  // namespace

size_t write_refusal(const Refused& refused, uint8_t (&message)[kRefusalSize]) {
  udphdr udp = {};
  udp.source = htons(refused.client.port);
  udp.dest = htons(refused.destination.port);
  const auto length = static_cast<uint16_t>(sizeof(udp) + refused.size);
  udp.len = htons(length);
  if (refused.client.family == 6) {
    // The kernel fills in the checksum of what a raw socket of ICMPv6 sends.
    const size_t at = put_icmp(ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOPORT, message);
    return put(udp, put_ip6(refused, length, at, message), message);
  }
  const size_t at = put_icmp(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, message);
  const size_t end = put(udp, put_ip(refused, length, at, message), message);
  const uint16_t sum = checksum(message, end);
  memcpy(message + offsetof(icmphdr, checksum), &sum, sizeof(sum));
  return end;
}

int Refusals::open(int where) {
  constexpr int kRaw = SOCK_RAW | SOCK_NONBLOCK;
  int status = open_socket_at(where, AF_INET, kRaw, IPPROTO_ICMP, &v4_);
  if (status == 0) status = open_socket_at(where, AF_INET6, kRaw, IPPROTO_ICMPV6, &v6_);
  // A kernel without IPv6 has no datagrams of it either.
  if (status == -EAFNOSUPPORT && v4_.valid()) status = 0;
  if (status != 0) close();
  return status;
}

int Refusals::send(const Refused& refused) const {
  if (refused.client.family != refused.destination.family) return -EINVAL;
  uint8_t message[kRefusalSize];
  const size_t length = write_refusal(refused, message);
  Endpoint to = refused.client;
  to.port = 0;  // which a raw socket takes for a protocol
  sockaddr_storage address;
  const socklen_t size = endpoint_to_sockaddr(to, false, &address);
  const OwnedFd& fd = to.family == 6 ? v6_ : v4_;
  return sendto(fd.get(), message, length, 0, reinterpret_cast<const sockaddr*>(&address), size) < 0
             ? -errno
             : 0;
}

void Refusals::close() {
  v4_.reset();
  v6_.reset();
}

}  // namespace original_dst
