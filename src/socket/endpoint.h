// One address and port as the kernel gives them, in the one form that leaves this library.
#ifndef ORIGINAL_DST_SOCKET_ENDPOINT_H_
#define ORIGINAL_DST_SOCKET_ENDPOINT_H_

#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

namespace original_dst {

// Fixed layout, because TypeScript reads it straight from shared memory (lib/binding.ts): a struct
// of five words costs nothing to hand over, where a JS object with three named properties costs as
// much as the system call itself.
struct Endpoint {
  uint16_t family;    // 4, 6, or 0: no address
  uint16_t port;      // host byte order
  uint32_t scope;     // interface index where needs_scope(), else 0
  uint8_t bytes[16];  // network byte order; an IPv4 address fills the first four, the rest is zero
};
static_assert(sizeof(Endpoint) == 24, "lib/binding.ts knows this layout");

// Room for "ffff:…:ffff%interface" and the terminating zero.
constexpr size_t kAddressTextSize = INET6_ADDRSTRLEN + 1 + IF_NAMESIZE;

// A struct sockaddr in memory that may be too short or hold anything at all. Returns 0, -EINVAL
// when the address does not fit in `length` bytes, or -EAFNOSUPPORT for a family that is neither
// IPv4 nor IPv6; `to` is then no address (family 0).
int endpoint_from_bytes(const uint8_t* address, size_t length, Endpoint* to);

// Canonical form: an IPv4-mapped IPv6 address becomes the IPv4 address that it stands for, so that
// one destination has one spelling whichever kind of listener accepted it. Returns 0, or
// -EAFNOSUPPORT for a family that is neither IPv4 nor IPv6.
int endpoint_from_sockaddr(const sockaddr_storage& from, Endpoint* to);

// The reverse; `mapped` asks for the ::ffff: form of an IPv4 address, which an AF_INET6 socket
// needs. Returns the length of the address written.
socklen_t endpoint_to_sockaddr(const Endpoint& from, bool mapped, sockaddr_storage* to);

// As lib/recover/kernel-answer.ts compares: without the interface of a link-local address.
bool same_address(const Endpoint& a, const Endpoint& b);

// fe80::/10, and multicast of one interface or link: an address that says nothing without its
// interface. As __ipv6_addr_needs_scope_id() of the kernel's include/net/ipv6.h.
bool needs_scope(const Endpoint& endpoint);

// The one spelling of an address (RFC 5952), with "%interface" where needs_scope(), as Node prints
// it. lib/address.ts makes the same one of any spelling. Returns the length of the text.
size_t endpoint_text(const Endpoint& endpoint, char (&text)[kAddressTextSize]);

// inet_pton(3) with an optional "%interface" (a name or an index), in canonical form: mapped
// addresses as above, the interface where needs_scope(). Returns 0, or -EINVAL for text
// that is no IP address, or -ENODEV for an interface that does not exist.
int endpoint_parse(const char* text, uint16_t port, Endpoint* to);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_ENDPOINT_H_
