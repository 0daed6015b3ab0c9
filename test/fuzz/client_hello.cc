// sources: src/names/client_hello.cc src/names/first_bytes.cc src/names/host_name.cc
// src/names/http_head.cc Any bytes that begin as a TLS record: a name only where it stands byte for
// byte, none before the hello is whole, and the same one however the hello is cut into records.
#include "names/client_hello.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>

using original_dst::FirstBytes;
using original_dst::parse_first_bytes;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

bool same(const FirstBytes& a, const FirstBytes& b) {
  return a.protocol == b.protocol && a.ech == b.ech && a.name_length == b.name_length &&
         a.version_count == b.version_count && a.alpn_length == b.alpn_length &&
         memcmp(a.versions, b.versions, a.version_count) == 0 &&
         memcmp(a.name, b.name, a.name_length) == 0 && memcmp(a.alpn, b.alpn, a.alpn_length) == 0;
}

size_t parse(const std::string& bytes, FirstBytes* first) {
  return parse_first_bytes(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), first);
}

std::string records(const std::string& message, size_t size) {
  std::string cut;
  for (size_t at = 0; at < message.size(); at += size) {
    const std::string piece = message.substr(at, size);
    cut += std::string("\x16\x03\x01", 3) + static_cast<char>(piece.size() >> 8) +
           static_cast<char>(piece.size()) + piece;
  }
  return cut;
}

// What is in the records, as far as they are whole.
std::string payload(const std::string& bytes) {
  std::string message;
  for (size_t at = 0; at + 5 <= bytes.size();) {
    const size_t length =
        static_cast<uint8_t>(bytes[at + 3]) << 8 | static_cast<uint8_t>(bytes[at + 4]);
    message += bytes.substr(at + 5, length);
    at += 5 + length;
  }
  return message;
}

std::string lower(std::string text) {
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return text;
}

void check_answer(const std::string& bytes, size_t cut) {
  FirstBytes first;
  const size_t need = parse(bytes, &first);
  check(need == 0 || (need > bytes.size() && first.name_length == 0));
  if (first.name_length != 0) {
    const std::string name(first.name, first.name_length);
    check(first.protocol == original_dst::kTls);
    check(lower(payload(bytes)).find(name) != std::string::npos);
  }
  const std::string head = bytes.substr(0, cut % (bytes.size() + 1));
  FirstBytes early;
  const size_t wanted = parse(head, &early);
  if (wanted == 0) {
    check(need == 0 && same(early, first));
  } else {
    // Nothing was missed by waiting for as much as was asked for.
    check(need != 0 || bytes.size() >= wanted);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t cut = data[0] << 8 | data[1];
  const bool whole = (data[2] & 1) != 0;
  const std::string input(reinterpret_cast<const char*>(data + 3), size - 3);
  if (!whole) {
    check_answer(std::string("\x16\x03", 2) + input, cut);
    return 0;
  }
  // The input as the body of a hello: most random records are none.
  const std::string message = std::string(1, 1) + static_cast<char>(input.size() >> 16) +
                              static_cast<char>(input.size() >> 8) +
                              static_cast<char>(input.size()) + input;
  FirstBytes one;
  FirstBytes many;
  check(parse(records(message, 16384), &one) == 0);
  const std::string pieces = records(message, 1 + cut % 64);
  check(parse(pieces, &many) == 0 && same(one, many));
  check_answer(pieces, cut);
  return 0;
}
