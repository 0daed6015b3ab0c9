// sources: src/socket/proxy_header.cc src/socket/endpoint.cc
// Any bytes: nothing is read beyond them, nothing behind the header changes the answer, and every
// beginning of a header asks for more of it.
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

constexpr const char* kPieces[] = {
    "PROXY ", "TCP4", "TCP6",  "UNKNOWN", " ",  "1.2.3.4", "::1", "::ffff:1.2.3.4",
    "0",      "80",   "65535", "65536",   "\r", "\n",      "%lo", "\r\n"};
const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  std::string text;
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
