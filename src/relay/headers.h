// Connections of proxies in front, which begin with a PROXY protocol header.
#ifndef ORIGINAL_DST_RELAY_HEADERS_H_
#define ORIGINAL_DST_RELAY_HEADERS_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <vector>

#include "socket/endpoint.h"

namespace original_dst {

// Whose connections must begin with one; in those of others none is looked for.
struct ExpectedHeaders {
  struct Range {
    uint16_t family;
    uint8_t first[16];
    uint8_t last[16];
  };
  std::vector<Range> from;
  uint32_t timeout_ms = 0;  // 0: none

  bool are_from(const Endpoint& peer) const;
};

// What the header says, and how it was written.
struct Proxied {
  Endpoint client;  // family 0, as the other: the proxy speaks for itself, or does not know
  Endpoint destination;
  size_t size = 0;
  std::unique_ptr<uint8_t[]> bytes;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_HEADERS_H_
