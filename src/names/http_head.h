// The head of an HTTP/1 request (RFC 9112).
#ifndef ORIGINAL_DST_NAMES_HTTP_HEAD_H_
#define ORIGINAL_DST_NAMES_HTTP_HEAD_H_

#include <stddef.h>
#include <stdint.h>

#include "names/first_bytes.h"

namespace original_dst {

// As parse_first_bytes(). The name is that of the one Host field and of the target, where that has
// one. There is none if two servers could read the head in two ways: what request smuggling lives
// on.
size_t parse_http_head(const uint8_t* bytes, size_t size, FirstBytes* first);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMES_HTTP_HEAD_H_
