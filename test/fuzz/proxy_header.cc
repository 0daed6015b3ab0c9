// sources: src/socket/proxy_header.cc src/socket/proxy_header_writer.cc src/socket/endpoint.cc
// Any bytes: nothing is read beyond them, nothing behind the header changes the answer, and every
// beginning of a header asks for more of it. What is written is read as what was meant.
#include "socket/proxy_header.h"

#include <stdlib.h>
#include <string.h>

#include <string>

using original_dst::parse_proxy_header;
using original_dst::ProxyHeader;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

int parse(const std::string& bytes, ProxyHeader* header) {
  // A block of its own: the sanitizer sees each byte that is read behind it.
  auto* const exact = static_cast<uint8_t*>(malloc(bytes.size() + 1));
  memcpy(exact + 1, bytes.data(), bytes.size());
  const int status = parse_proxy_header(exact + 1, bytes.size(), header);
  free(exact);
  return status;
}

void check_answer(const std::string& bytes) {
  ProxyHeader header;
  const int status = parse(bytes, &header);
  if (status != 0) {
    check(header.destination.family == 0 && header.client.family == 0);
    check(status < 0 || static_cast<size_t>(status) > bytes.size());
    check(status <= static_cast<int>(original_dst::kMostProxyHeader));
    return;
  }
  check(header.length <= bytes.size() && header.tlv_at <= header.length);
  check(header.version == 1 || header.version == 2);
  check((header.destination.family == 0) == (header.client.family == 0));
  ProxyHeader other;
  const std::string alone = bytes.substr(0, header.length);
  check(parse(alone, &other) == 0 && memcmp(&header, &other, sizeof(header)) == 0);
  check(parse(alone + std::string(300, '\n'), &other) == 0);
  check(memcmp(&header, &other, sizeof(header)) == 0);
  for (size_t cut = 0; cut < alone.size(); cut++) {
    const int need = parse(alone.substr(0, cut), &other);
    check(need > static_cast<int>(cut) && need <= static_cast<int>(alone.size()));
  }
}

// Two ends, a name and an identity out of any bytes.
void check_written(const std::string& bytes) {
  using original_dst::Endpoint;
  using original_dst::HeaderContent;
  uint8_t from[60] = {};
  memcpy(from, bytes.data(), bytes.size() < sizeof(from) ? bytes.size() : sizeof(from));
  HeaderContent content;
  Endpoint* const ends[] = {&content.client, &content.destination};
  for (size_t i = 0; i < 2; i++) {
    const bool v6 = (from[0] & 1) != 0;
    sockaddr_storage address = {};
    address.ss_family = v6 ? AF_INET6 : AF_INET;
    memcpy(v6 ? static_cast<void*>(&reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr)
              : static_cast<void*>(&reinterpret_cast<sockaddr_in*>(&address)->sin_addr),
           from + 1 + 18 * i, v6 ? 16 : 4);
    check(original_dst::endpoint_from_sockaddr(address, ends[i]) == 0);
    ends[i]->port = static_cast<uint16_t>(from[17 + 18 * i] << 8 | from[18 + 18 * i]);
  }
  if ((from[0] & 2) != 0) content.unique_id = from + 40;
  const std::string name(from[59], 'a');
  content.authority = name.data();
  content.authority_length = name.size();
  const bool told = content.client.family == content.destination.family;
  for (const uint8_t version : {1, 2}) {
    uint8_t written[original_dst::kMostWrittenHeader];
    const size_t length = original_dst::write_proxy_header(version, content, written);
    check(length <= sizeof(written));
    ProxyHeader read;
    check(parse(std::string(reinterpret_cast<char*>(written), length), &read) == 0);
    check(read.version == version && read.length == length);
    check(read.client.family == (told ? content.client.family : 0));
    if (!told) continue;
    check(memcmp(read.client.bytes, content.client.bytes, 16) == 0);
    check(memcmp(read.destination.bytes, content.destination.bytes, 16) == 0);
    check(read.client.port == content.client.port);
    check(read.destination.port == content.destination.port);
    const size_t tlvs = (name.empty() ? 0 : 3 + name.size()) + (content.unique_id ? 19 : 0);
    check(read.length - read.tlv_at == (version == 2 ? tlvs : 0));
  }
}

constexpr const char* kPieces[] = {
    "PROXY ", "TCP4", "TCP6",  "UNKNOWN", " ",  "1.2.3.4", "::1", "::ffff:1.2.3.4",
    "0",      "80",   "65535", "65536",   "\r", "\n",      "%lo", "\r\n"};
const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  std::string text;
  check_written(rest);
  switch (data[0] % 4) {
    case 0:
      check_answer(rest);
      break;
    case 1:
      check_answer(kSignature + rest);
      break;
    case 2:
      check_answer("PROXY " + rest);
      break;
    default:
      for (const char at : rest) {
        text += kPieces[static_cast<uint8_t>(at) % (sizeof(kPieces) / sizeof(kPieces[0]))];
      }
      check_answer("PROXY " + text);
  }
  return 0;
}
