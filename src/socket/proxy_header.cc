#include "socket/proxy_header.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <initializer_list>

namespace original_dst {

namespace {

constexpr uint8_t kSignature[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
constexpr size_t kFixed = 16;  // of version 2: signature, version and command, family, length
constexpr size_t kMostLine = 107;
constexpr char kPrefix[] = "PROXY ";

constexpr uint8_t kLocal = 0x20;
constexpr uint8_t kProxy = 0x21;
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr uint8_t kMostFamily = 0x32;  // datagrams over AF_UNIX
constexpr uint8_t kCrc32c = 0x03;

uint16_t word(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

bool is_beginning(const uint8_t* bytes, size_t size, const void* of, size_t length) {
  return memcmp(bytes, of, size < length ? size : length) == 0;
}

// The words of a line, between single spaces.
class Words {
 public:
  Words(const char* at, const char* end) : at_(at), end_(end) {}

  // False when there is none, or it has no room.
  bool next(char (&word)[INET6_ADDRSTRLEN]) {
    if (at_ > end_) return false;
    const auto* space = static_cast<const char*>(memchr(at_, ' ', static_cast<size_t>(end_ - at_)));
    const char* const stop = space != nullptr ? space : end_;
    const auto length = static_cast<size_t>(stop - at_);
    // A zero would end the text ahead of what has been sent.
    if (length == 0 || length >= sizeof(word) || memchr(at_, '\0', length) != nullptr) return false;
    memcpy(word, at_, length);
    word[length] = '\0';
    at_ = stop + 1;
    return true;
  }

  bool over() const { return at_ > end_; }

 private:
  const char* at_;
  const char* end_;
};

// Decimal, without leading zeros.
bool parse_port(const char* text, uint16_t* port) {
  const size_t length = strlen(text);
  if (length > 5 || (text[0] == '0' && length > 1)) return false;
  uint32_t value = 0;
  for (const char* at = text; *at != '\0'; at++) {
    if (*at < '0' || *at > '9') return false;
    value = value * 10 + static_cast<uint32_t>(*at - '0');
  }
  *port = static_cast<uint16_t>(value);
  return value <= UINT16_MAX;
}

// An address of the family that the line is of: "::ffff:192.0.2.1" is one of IPv6 there.
bool parse_address(const char* text, bool v6, Endpoint* to) {
  if ((strchr(text, ':') != nullptr) != v6 || strchr(text, '%') != nullptr) return false;
  return endpoint_parse(text, 0, to) == 0;
}

int parse_line(const char* at, const char* end, ProxyHeader* header) {
  Words words(at, end);
  char word[INET6_ADDRSTRLEN];
  if (!words.next(word)) return -EBADMSG;
  // What follows is not to be looked at.
  if (strcmp(word, "UNKNOWN") == 0) return 0;
  const bool v6 = strcmp(word, "TCP6") == 0;
  if (!v6 && strcmp(word, "TCP4") != 0) return -EBADMSG;
  for (Endpoint* end_of : {&header->client, &header->destination}) {
    if (!words.next(word) || !parse_address(word, v6, end_of)) return -EBADMSG;
  }
  for (Endpoint* end_of : {&header->client, &header->destination}) {
    if (!words.next(word) || !parse_port(word, &end_of->port)) return -EBADMSG;
  }
  return words.over() ? 0 : -EBADMSG;
}

// One may be written as a mapped address and the other not: nothing could be dialled with these.
bool of_one_family(const ProxyHeader& header) {
  return header.client.family == header.destination.family;
}

int parse_v1(const uint8_t* bytes, size_t size, ProxyHeader* header) {
  const size_t looked_at = size < kMostLine ? size : kMostLine;
  const auto* newline = static_cast<const uint8_t*>(memchr(bytes, '\n', looked_at));
  if (newline == nullptr) {
    return size < kMostLine ? static_cast<int>(size) + 1 : -EBADMSG;
  }
  const auto length = static_cast<size_t>(newline - bytes) + 1;
  if (length < sizeof(kPrefix) + 1 || newline[-1] != '\r') return -EBADMSG;
  header->version = 1;
  header->length = static_cast<uint16_t>(length);
  header->tlv_at = header->length;
  const auto* line = reinterpret_cast<const char*>(bytes);
  int status = parse_line(line + sizeof(kPrefix) - 1, line + length - 2, header);
  if (status == 0 && !of_one_family(*header)) status = -EBADMSG;
  if (status != 0) header->client = header->destination = {};
  return status;
}

// CRC-32C as in iSCSI, RFC 3720: reflected, with the field itself as zeros.
uint32_t crc32c(const uint8_t* bytes, size_t size, size_t field) {
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < size; i++) {
    crc ^= i >= field && i < field + 4 ? 0 : bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0);
  }
  return ~crc;
}

bool check_tlvs(const uint8_t* bytes, size_t at, size_t end) {
  while (at < end) {
    if (end - at < 3) return false;
    const uint8_t type = bytes[at];
    const size_t length = word(bytes + at + 1);
    at += 3;
    if (length > end - at) return false;
    if (type == kCrc32c) {
      if (length != 4) return false;
      const uint32_t told = static_cast<uint32_t>(word(bytes + at)) << 16 | word(bytes + at + 2);
      if (crc32c(bytes, end, at) != told) return false;
    }
    at += length;
  }
  return true;
}

Endpoint endpoint_at(const uint8_t* address, bool v6) {
  sockaddr_storage from = {};
  if (v6) {
    sockaddr_in6 v6_address = {};
    v6_address.sin6_family = AF_INET6;
    memcpy(&v6_address.sin6_addr, address, sizeof(v6_address.sin6_addr));
    memcpy(&from, &v6_address, sizeof(v6_address));
  } else {
    sockaddr_in v4_address = {};
    v4_address.sin_family = AF_INET;
    memcpy(&v4_address.sin_addr, address, sizeof(v4_address.sin_addr));
    memcpy(&from, &v4_address, sizeof(v4_address));
  }
  Endpoint endpoint;
  endpoint_from_sockaddr(from, &endpoint);
  return endpoint;
}

void read_addresses(const uint8_t* at, bool v6, ProxyHeader* header) {
  const size_t size = v6 ? 16 : 4;
  header->client = endpoint_at(at, v6);
  header->destination = endpoint_at(at + size, v6);
  header->client.port = word(at + 2 * size);
  header->destination.port = word(at + 2 * size + 2);
}

int parse_v2(const uint8_t* bytes, size_t size, ProxyHeader* header) {
  if (size < kFixed) return static_cast<int>(kFixed);
  const uint8_t command = bytes[12];
  const uint8_t family = bytes[13];
  const size_t length = kFixed + word(bytes + 14);
  if (command != kLocal && command != kProxy) return -EBADMSG;
  if (family > kMostFamily || (family & 0xf) > 2) return -EBADMSG;
  if (length > kMostProxyHeader) return -EMSGSIZE;
  const bool of_client = command == kProxy && family != kUnspecified;
  if (of_client && family != kTcp4 && family != kTcp6) return -EAFNOSUPPORT;
  const size_t addresses = !of_client ? 0 : family == kTcp4 ? 12 : 36;
  if (length < kFixed + addresses) return -EBADMSG;
  if (size < length) return static_cast<int>(length);
  // Of LOCAL and UNSPEC everything is to be skipped: nobody says where TLVs begin in there.
  const size_t tlv_at = of_client ? kFixed + addresses : length;
  if (!check_tlvs(bytes, tlv_at, length)) return -EBADMSG;
  header->version = 2;
  header->length = static_cast<uint16_t>(length);
  header->tlv_at = static_cast<uint16_t>(tlv_at);
  if (of_client) read_addresses(bytes + kFixed, family == kTcp6, header);
  if (of_one_family(*header)) return 0;
  header->client = header->destination = {};
  return -EBADMSG;
}

}  // namespace

int parse_proxy_header(const uint8_t* bytes, size_t size, ProxyHeader* header) {
  *header = {};
  constexpr size_t kPrefixLength = sizeof(kPrefix) - 1;
  if (size == 0) return 1;
  if (is_beginning(bytes, size, kSignature, sizeof(kSignature))) {
    return parse_v2(bytes, size, header);
  }
  if (!is_beginning(bytes, size, kPrefix, kPrefixLength)) return -EBADMSG;
  return parse_v1(bytes, size, header);
}

}  // namespace original_dst
