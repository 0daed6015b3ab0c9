#include "names/first_bytes.h"

#include <string.h>

#include <algorithm>

#include "names/client_hello.h"
#include "names/http_head.h"

namespace original_dst {

namespace {

// RFC 9113, section 3.4
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kPrefaceLength = sizeof(kPreface) - 1;
// As far as no HTTP/1 request goes.
constexpr size_t kPrefaceIsCertain = 4;

}  // namespace

size_t parse_first_bytes(const uint8_t* bytes, size_t size, FirstBytes* first) {
  memset(first, 0, offsetof(FirstBytes, name));
  if (size == 0) {
    first->protocol = kSilent;
    return 1;
  }
  if (may_be_client_hello(bytes, size)) return parse_client_hello(bytes, size, first);
  if (memcmp(bytes, kPreface, std::min(size, kPrefaceLength)) == 0) {
    if (size >= kPrefaceIsCertain) first->protocol = kHttp2;
    return size >= kPrefaceLength ? 0 : size + 1;
  }
  return parse_http_head(bytes, size, first);
}

}  // namespace original_dst
