// sources: src/names/host_name.cc src/socket/endpoint.cc
// Any bytes: a name is what was there, in lower case, and never something that inet_aton(3) or
// inet_pton(3) takes for an address.
#include "names/host_name.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include <string>

#include "socket/endpoint.h"

using original_dst::authority_name;
using original_dst::host_name;
using original_dst::kLongestName;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

std::string made(size_t (*make)(const uint8_t*, size_t, char*), const std::string& text) {
  char name[kLongestName];
  const size_t length = make(reinterpret_cast<const uint8_t*>(text.data()), text.size(), name);
  check(length <= kLongestName);
  return std::string(name, length);
}

void check_text(const std::string& text) {
  const std::string name = made(host_name, text);
  check(name.empty() || made(authority_name, text) == name);
  if (name.empty()) return;
  check(made(authority_name, text + ":443") == name);
  check(made(host_name, name) == name);
  check(name.size() == text.size() || (name.size() + 1 == text.size() && text.back() == '.'));
  for (size_t i = 0; i < name.size(); i++) {
    const bool upper = text[i] >= 'A' && text[i] <= 'Z';
    check(name[i] == (upper ? static_cast<char>(text[i] - 'A' + 'a') : text[i]));
  }
  in_addr v4;
  check(inet_aton(name.c_str(), &v4) == 0);
  original_dst::Endpoint endpoint;
  check(original_dst::endpoint_parse(name.c_str(), 0, &endpoint) != 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  check_text(text);
  if ((data[0] & 1) != 0) {
    constexpr char kLetters[] = "0123456789abcdefxXzZ....-_:";
    for (char& letter : text)
      letter = kLetters[static_cast<uint8_t>(letter) % (sizeof(kLetters) - 1)];
    check_text(text);
  }
  return 0;
}
