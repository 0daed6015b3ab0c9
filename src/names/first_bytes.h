// What a client's first bytes say: which protocol it speaks, and the name that it asks for. The
// parsers allocate nothing and read no further than they are told.
#ifndef ORIGINAL_DST_NAMES_FIRST_BYTES_H_
#define ORIGINAL_DST_NAMES_FIRST_BYTES_H_

#include <stddef.h>
#include <stdint.h>

namespace original_dst {

enum Protocol : uint8_t {
  kOther = 0,
  kTls = 1,
  kHttp = 2,
  kHttp2 = 3,
  kSilent = 4,
  kNotLookedAt = 255,  // of no FirstBytes: in the place of one
};

// Fixed layout: TypeScript reads it straight from memory.
struct FirstBytes {
  uint8_t protocol;     // of what has been seen: the beginning of a ClientHello is kTls already
  uint8_t ech;          // 1: the ClientHello has an encrypted_client_hello extension
  uint8_t name_length;  // 0: no name, or more than one opinion about it
  uint8_t version_count;
  uint16_t alpn_length;
  uint16_t method_length;
  uint32_t method_at;  // in the bytes; likewise the target
  uint32_t target_at;
  uint32_t target_length;
  uint8_t versions[8];  // the known ones that the ClientHello offers: 4 for TLS 1.3 (0x0304)
  char name[256];       // as host_name() makes it, not terminated
  uint8_t alpn[256];    // as on the wire: each with its length ahead; longer lists are left out
};
static_assert(sizeof(FirstBytes) == 540, "lib/names/parse.ts knows this layout");

// Looks at all that a client has sent so far. Returns 0 when more bytes would not change the
// answer; else how many there must be in all before it is worth asking again, and then there is no
// name yet.
size_t parse_first_bytes(const uint8_t* bytes, size_t size, FirstBytes* first);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMES_FIRST_BYTES_H_
