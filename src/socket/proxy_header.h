// The PROXY protocol's header, versions 1 and 2: what a proxy in front says of a connection.
#ifndef ORIGINAL_DST_SOCKET_PROXY_HEADER_H_
#define ORIGINAL_DST_SOCKET_PROXY_HEADER_H_

#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// A version 2 header says itself how long it is; what is longer than HAProxy's buffer is refused.
constexpr size_t kMostProxyHeader = 16384;

struct ProxyHeader {
  Endpoint client;       // family 0, as the other: the proxy speaks for itself, or does not know
  Endpoint destination;  // where the client has dialled
  uint16_t length;       // of the whole header
  uint16_t tlv_at;       // the type-length-values of version 2, which reach to its end
  uint8_t version;
};

// Reads the header at the beginning of `bytes`. Returns 0; or how many bytes there must be at least
// before it is worth asking again, and then the answer is about no byte behind the header; or
// -EBADMSG: this is no header, -EAFNOSUPPORT: of a connection that is not TCP over IP, -EMSGSIZE.
// A checksum that is in it is verified. Source: haproxy.org/download/2.9/doc/proxy-protocol.txt
int parse_proxy_header(const uint8_t* bytes, size_t size, ProxyHeader* header);

constexpr size_t kMostAuthority = 255;  // as long as a name in DNS
constexpr size_t kUniqueIdSize = 16;
// Fixed part, two addresses of IPv6 with their ports, and two type-length-values; version 1 has
// 107 at most.
constexpr size_t kMostWrittenHeader = 16 + 36 + 3 + kMostAuthority + 3 + kUniqueIdSize;

struct HeaderContent {
  Endpoint client;
  Endpoint destination;  // family 0: it is not known, and then neither is told
  // Version 2 alone:
  const char* authority = nullptr;  // PP2_TYPE_AUTHORITY
  size_t authority_length = 0;
  const uint8_t* unique_id = nullptr;  // PP2_TYPE_UNIQUE_ID, kUniqueIdSize bytes
};

// Writes such a header. Returns its length.
size_t write_proxy_header(uint8_t version, const HeaderContent& content,
                          uint8_t (&to)[kMostWrittenHeader]);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_PROXY_HEADER_H_
