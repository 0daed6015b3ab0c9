#include "socket/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <charconv>
#include <system_error>

namespace original_dst {

namespace {

size_t ipv4_text(const uint8_t* bytes, char* text) {
  // inet_ntop(AF_INET) goes through snprintf and costs as much as the system call it follows.
  char* at = text;
  for (int i = 0; i < 4; i++) {
    const uint8_t byte = bytes[i];
    if (byte >= 100) *at++ = static_cast<char>('0' + byte / 100);
    if (byte >= 10) *at++ = static_cast<char>('0' + byte / 10 % 10);
    *at++ = static_cast<char>('0' + byte % 10);
    *at++ = '.';
  }
  *--at = '\0';
  return static_cast<size_t>(at - text);
}

// RFC 5952, which inet_ntop(3) writes too, but for ::/96: there glibc ends in dotted decimals and
// musl does not, and the same address would have another text with another libc.
size_t ipv6_text(const uint8_t* bytes, char* text) {
  uint16_t words[8];
  size_t run = 8;  // where the longest run of zeros begins, of two words at least
  size_t run_length = 1;
  for (size_t i = 0, zeros = 0; i < 8; i++) {
    words[i] = static_cast<uint16_t>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
    zeros = words[i] == 0 ? zeros + 1 : 0;
    if (zeros > run_length) {
      run_length = zeros;
      run = i + 1 - zeros;
    }
  }
  char* at = text;
  for (size_t i = 0; i < 8; i++) {
    if (i == run) {
      *at++ = ':';
      i += run_length - 1;
      if (i == 7) *at++ = ':';
      continue;
    }
    if (i > 0) *at++ = ':';
    bool leading = true;
    for (int shift = 12; shift >= 0; shift -= 4) {
      const int digit = words[i] >> shift & 0xf;
      leading = leading && digit == 0 && shift > 0;
      if (!leading) *at++ = "0123456789abcdef"[digit];
    }
  }
  *at = '\0';
  return static_cast<size_t>(at - text);
}

// As the kernel's dev_valid_name(): nearly anything.
bool could_be_interface(const char* name) {
  size_t length = 0;
  for (; name[length] != '\0'; length++) {
    if (strchr("/: \t\n\v\f\r", name[length]) != nullptr) return false;
  }
  return length > 0 && length < IF_NAMESIZE;
}

// An interface's index by its name or number; 0 where there is none.
uint32_t parse_scope(const char* scope) {
  const uint32_t index = if_nametoindex(scope);
  if (index != 0) return index;
  // Not strtoul: it takes "+5" and " 5", and newer headers give it a name that older libcs lack.
  uint32_t number = 0;
  const char* end = scope + strlen(scope);
  const std::from_chars_result parsed = std::from_chars(scope, end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return 0;
  char name[IF_NAMESIZE];
  return if_indextoname(number, name) != nullptr ? number : 0;
}

}  // namespace

int endpoint_from_bytes(const uint8_t* address, size_t length, Endpoint* to) {
  *to = {};
  sa_family_t family;
  if (length < sizeof(family)) return -EINVAL;
  memcpy(&family, address, sizeof(family));
  if (family == AF_INET) {
    sockaddr_in v4;
    if (length < sizeof(v4)) return -EINVAL;
    memcpy(&v4, address, sizeof(v4));
    to->family = 4;
    to->port = ntohs(v4.sin_port);
    memcpy(to->bytes, &v4.sin_addr, 4);
    return 0;
  }
  if (family != AF_INET6) return -EAFNOSUPPORT;
  sockaddr_in6 v6;
  if (length < sizeof(v6)) return -EINVAL;
  memcpy(&v6, address, sizeof(v6));
  to->port = ntohs(v6.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    to->family = 4;
    memcpy(to->bytes, v6.sin6_addr.s6_addr + 12, 4);
    return 0;
  }
  to->family = 6;
  memcpy(to->bytes, &v6.sin6_addr, 16);
  if (needs_scope(*to)) to->scope = v6.sin6_scope_id;
  return 0;
}

int endpoint_from_sockaddr(const sockaddr_storage& from, Endpoint* to) {
  return endpoint_from_bytes(reinterpret_cast<const uint8_t*>(&from), sizeof(from), to);
}

socklen_t endpoint_to_sockaddr(const Endpoint& from, bool mapped, sockaddr_storage* to) {
  *to = {};
  if (from.family == 4 && !mapped) {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(from.port);
    memcpy(&v4.sin_addr, from.bytes, 4);
    memcpy(to, &v4, sizeof(v4));
    return sizeof(v4);
  }
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(from.port);
  v6.sin6_scope_id = from.scope;
  if (from.family == 4) {
    memset(v6.sin6_addr.s6_addr + 10, 0xff, 2);
    memcpy(v6.sin6_addr.s6_addr + 12, from.bytes, 4);
  } else {
    memcpy(&v6.sin6_addr, from.bytes, 16);
  }
  memcpy(to, &v6, sizeof(v6));
  return sizeof(v6);
}

bool same_address(const Endpoint& a, const Endpoint& b) {
  return a.family == b.family && a.port == b.port && memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

bool needs_scope(const Endpoint& endpoint) {
  if (endpoint.family != 6) return false;
  const uint8_t first = endpoint.bytes[0];
  const uint8_t second = endpoint.bytes[1];
  if (first == 0xff) return (second & 0x0f) == 1 || (second & 0x0f) == 2;
  return first == 0xfe && (second & 0xc0) == 0x80;
}

size_t endpoint_text(const Endpoint& endpoint, char (&text)[kAddressTextSize]) {
  if (endpoint.family == 4) return ipv4_text(endpoint.bytes, text);
  size_t length = ipv6_text(endpoint.bytes, text);
  char name[IF_NAMESIZE];
  if (endpoint.scope != 0 && if_indextoname(endpoint.scope, name) != nullptr) {
    text[length++] = '%';
    const size_t name_length = strnlen(name, IF_NAMESIZE - 1);
    memcpy(text + length, name, name_length);
    length += name_length;
    text[length] = '\0';
  }
  return length;
}

int endpoint_parse(const char* text, uint16_t port, Endpoint* to) {
  *to = {};
  to->port = port;
  if (inet_pton(AF_INET, text, to->bytes) == 1) {
    to->family = 4;
    return 0;
  }
  const char* percent = strchr(text, '%');
  const size_t length = percent ? static_cast<size_t>(percent - text) : strlen(text);
  char address[INET6_ADDRSTRLEN];
  if (length >= sizeof(address)) return -EINVAL;
  memcpy(address, text, length);
  address[length] = '\0';
  in6_addr v6;
  if (inet_pton(AF_INET6, address, &v6) != 1) return -EINVAL;
  if (percent != nullptr && !could_be_interface(percent + 1)) return -EINVAL;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    to->family = 4;
    memcpy(to->bytes, v6.s6_addr + 12, 4);
    return 0;
  }
  to->family = 6;
  memcpy(to->bytes, &v6, 16);
  // connect(2) takes no notice of an interface behind any other address, and with one kept it would
  // not equal the same address as the kernel gives it.
  if (percent != nullptr && needs_scope(*to)) {
    to->scope = parse_scope(percent + 1);
    if (to->scope == 0) return -ENODEV;
  }
  return 0;
}

}  // namespace original_dst
