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

uint32_t parse_scope(const char* scope) {
  const uint32_t index = if_nametoindex(scope);
  if (index != 0) return index;
  // Not strtoul: it takes "+5" and " 5", and newer headers give it a name that older libcs lack.
  uint32_t number = 0;
  const char* end = scope + strlen(scope);
  const std::from_chars_result parsed = std::from_chars(scope, end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? number : 0;
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
  if (is_link_local(*to)) to->scope = v6.sin6_scope_id;
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

bool is_link_local(const Endpoint& endpoint) {
  return endpoint.family == 6 && endpoint.bytes[0] == 0xfe && (endpoint.bytes[1] & 0xc0) == 0x80;
}

size_t endpoint_text(const Endpoint& endpoint, char (&text)[kAddressTextSize]) {
  if (endpoint.family == 4) return ipv4_text(endpoint.bytes, text);
  inet_ntop(AF_INET6, endpoint.bytes, text, INET6_ADDRSTRLEN);
  size_t length = strlen(text);
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
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    to->family = 4;
    memcpy(to->bytes, v6.s6_addr + 12, 4);
    return 0;
  }
  to->family = 6;
  memcpy(to->bytes, &v6, 16);
  if (percent != nullptr) {
    to->scope = parse_scope(percent + 1);
    if (to->scope == 0) return -ENODEV;
  }
  return 0;
}

}  // namespace original_dst
