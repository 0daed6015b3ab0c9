// sources: src/socket/endpoint.cc
// A socket address goes in and comes back the same by way of every other form; so does any text
// that is an address.
#include "socket/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <string>

using original_dst::Endpoint;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

bool same(const Endpoint& a, const Endpoint& b) {
  return a.family == b.family && a.port == b.port && memcmp(a.bytes, b.bytes, 16) == 0;
}

void check_endpoint(const Endpoint& endpoint) {
  check(endpoint.family == 4 || endpoint.family == 6);
  for (const bool mapped : {false, true}) {
    sockaddr_storage address;
    const socklen_t length = original_dst::endpoint_to_sockaddr(endpoint, mapped, &address);
    check(length == (endpoint.family == 4 && !mapped ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
    Endpoint back;
    check(original_dst::endpoint_from_sockaddr(address, &back) == 0);
    check(same(endpoint, back));
  }
  char text[original_dst::kAddressTextSize];
  const size_t length = original_dst::endpoint_text(endpoint, text);
  check(length == strlen(text) && length < sizeof(text));
  Endpoint back;
  check(original_dst::endpoint_parse(text, endpoint.port, &back) == 0);
  check(same(endpoint, back));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t mode = *data++;
  size--;
  Endpoint endpoint;
  if ((mode & 1) == 0) {
    sockaddr_storage address = {};
    memcpy(&address, data, size < sizeof(address) ? size : sizeof(address));
    if ((mode & 2) != 0) address.ss_family = (mode & 4) != 0 ? AF_INET6 : AF_INET;
    const int status = original_dst::endpoint_from_sockaddr(address, &endpoint);
    check((status == 0) == (address.ss_family == AF_INET || address.ss_family == AF_INET6));
    if (status == 0) check_endpoint(endpoint);
    return 0;
  }
  std::string text(reinterpret_cast<const char*>(data), size);
  if ((mode & 2) != 0) {
    // Few random bytes are addresses; most random strings of these letters nearly are.
    constexpr char kLetters[] = "0123456789abcdefF::::....%lo1";
    for (char& letter : text)
      letter = kLetters[static_cast<uint8_t>(letter) % (sizeof(kLetters) - 1)];
  }
  const int status = original_dst::endpoint_parse(text.c_str(), 443, &endpoint);
  check(status == 0 || status == -EINVAL || status == -ENODEV);
  if (status == 0) check_endpoint(endpoint);
  return 0;
}
