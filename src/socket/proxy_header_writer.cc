// Writing the PROXY protocol's header, as whoever is in front does.
#include <string.h>

#include <algorithm>

#include "socket/proxy_header.h"

namespace original_dst {

namespace {

constexpr uint8_t kStart[] = {'\r', '\n', '\r', '\n', 0,    '\r', '\n',
                              'Q',  'U',  'I',  'T',  '\n', 0x21 /* version 2, PROXY */};
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr uint8_t kAuthority = 0x02;
constexpr uint8_t kUniqueId = 0x05;

class Writer {
 public:
  explicit Writer(uint8_t* to) : begin_(to), at_(to) {}

  void bytes(const void* from, size_t size) {
    memcpy(at_, from, size);
    at_ += size;
  }
  void byte(uint8_t value) { *at_++ = value; }
  void word(size_t value) {
    byte(static_cast<uint8_t>(value >> 8));
    byte(static_cast<uint8_t>(value));
  }
  void text(const char* from) { bytes(from, strlen(from)); }
  void decimal(uint32_t value) {
    char digits[10];
    size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    while (count > 0) byte(static_cast<uint8_t>(digits[--count]));
  }
  // Without the interface, which is this host's own affair.
  void address(const Endpoint& endpoint) {
    char written[kAddressTextSize];
    const size_t length = endpoint_text(endpoint, written);
    const auto* interface = static_cast<const char*>(memchr(written, '%', length));
    bytes(written, interface == nullptr ? length : static_cast<size_t>(interface - written));
  }
  void tlv(uint8_t type, const void* value, size_t size) {
    byte(type);
    word(size);
    bytes(value, size);
  }
  size_t size() const { return static_cast<size_t>(at_ - begin_); }

 private:
  uint8_t* const begin_;
  uint8_t* at_;
};

// Of two families there is no header.
bool has_ends(const HeaderContent& content) {
  return content.destination.family != 0 && content.client.family == content.destination.family;
}

size_t write_v1(const HeaderContent& content, uint8_t* to) {
  Writer line(to);
  line.text("PROXY ");
  if (has_ends(content)) {
    line.text(content.client.family == 4 ? "TCP4 " : "TCP6 ");
    for (const Endpoint* end : {&content.client, &content.destination}) {
      line.address(*end);
      line.byte(' ');
    }
    line.decimal(content.client.port);
    line.byte(' ');
    line.decimal(content.destination.port);
  } else {
    line.text("UNKNOWN");
  }
  line.text("\r\n");
  return line.size();
}

size_t write_v2(const HeaderContent& content, uint8_t* to) {
  const bool ends = has_ends(content);
  const bool v4 = content.client.family == 4;
  const size_t address = !ends ? 0 : v4 ? 4 : 16;
  const size_t name = std::min<size_t>(content.authority_length, kMostAuthority);
  const size_t id = content.unique_id == nullptr ? 0 : kUniqueIdSize;
  Writer header(to);
  header.bytes(kStart, sizeof(kStart));
  header.byte(!ends ? kUnspecified : v4 ? kTcp4 : kTcp6);
  header.word((ends ? 2 * address + 4 : 0) + (name > 0 ? 3 + name : 0) + (id > 0 ? 3 + id : 0));
  if (ends) {
    header.bytes(content.client.bytes, address);
    header.bytes(content.destination.bytes, address);
    header.word(content.client.port);
    header.word(content.destination.port);
  }
  if (name > 0) header.tlv(kAuthority, content.authority, name);
  if (id > 0) header.tlv(kUniqueId, content.unique_id, id);
  return header.size();
}

}  // namespace

size_t write_proxy_header(uint8_t version, const HeaderContent& content,
                          uint8_t (&to)[kMostWrittenHeader]) {
  return version == 1 ? write_v1(content, to) : write_v2(content, to);
}

}  // namespace original_dst
