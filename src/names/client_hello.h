// TLS ClientHello (RFC 8446, sections 4.1.2 and 5.1), in as many records as the client has made of
// it.
#ifndef ORIGINAL_DST_NAMES_CLIENT_HELLO_H_
#define ORIGINAL_DST_NAMES_CLIENT_HELLO_H_

#include <stddef.h>
#include <stdint.h>

#include "names/first_bytes.h"

namespace original_dst {

// Do the bytes begin as a handshake record of TLS does? At least one byte.
bool may_be_client_hello(const uint8_t* bytes, size_t size);

// As parse_first_bytes(). No name for a hello that is not as the RFCs have it, in any part that is
// looked at: a server may read it in another way, or answer with an alert.
size_t parse_client_hello(const uint8_t* bytes, size_t size, FirstBytes* first);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMES_CLIENT_HELLO_H_
