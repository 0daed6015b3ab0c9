// sources: src/names/client_hello.cc src/names/first_bytes.cc src/names/host_name.cc
// src/names/http_head.cc Any text: a name only of a Host field or target that is there, none before
// the head is whole, and nothing behind the head changes the answer.
#include "names/http_head.h"

#include <stdlib.h>
#include <string.h>

#include <string>

using original_dst::FirstBytes;
using original_dst::parse_first_bytes;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

size_t parse(const std::string& bytes, FirstBytes* first) {
  return parse_first_bytes(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), first);
}

std::string lower(std::string text) {
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return text;
}

std::string name_of(const FirstBytes& first) { return std::string(first.name, first.name_length); }

void check_answer(const std::string& bytes, size_t cut) {
  FirstBytes first;
  const size_t need = parse(bytes, &first);
  check(need == 0 || (need > bytes.size() && first.name_length == 0));
  check(first.method_at + first.method_length <= bytes.size());
  check(first.target_at + first.target_length <= bytes.size());
  if (first.name_length != 0 && first.protocol == original_dst::kHttp) {
    const std::string head = lower(bytes.substr(0, bytes.find("\r\n\r\n")));
    check(head.find(name_of(first)) != std::string::npos);
    check(head.find('\0') == std::string::npos);
    const size_t host = head.find("\r\nhost:");
    check(host == std::string::npos || head.find("\r\nhost:", host + 1) == std::string::npos);
  }
  FirstBytes early;
  if (parse(bytes.substr(0, cut % (bytes.size() + 1)), &early) == 0) {
    check(need == 0 && early.protocol == first.protocol && name_of(early) == name_of(first));
  }
  if (need != 0) return;
  FirstBytes late;
  check(parse(bytes + "\r\nHost: other.example\r\n\r\n", &late) == 0);
  check(late.protocol == first.protocol && name_of(late) == name_of(first));
}

// Few random texts are heads; most sequences of these pieces nearly are.
constexpr const char* kPieces[] = {
    "GET ",
    "CONNECT ",
    "/",
    "http://a.example",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host:",
    " a.example",
    "\r\n",
    "\n",
    "\r",
    ":80",
    "@",
    " ",
    "\t",
    "b.example",
    "[::1]",
    "Content-Length: 1",
    "A: b\r\n",
    "\r\n\r\n",
    "Host: a.example\r\n",
    "GET / HTTP/1.1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "127.0.0.1",
    "a.example:1",
    ",",
    "PRI * HTTP/2.0",
    "*",
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t cut = data[0] << 8 | data[1];
  if ((data[2] & 1) == 0) {
    check_answer(std::string(reinterpret_cast<const char*>(data + 3), size - 3), cut);
    return 0;
  }
  std::string text;
  for (size_t i = 3; i < size; i++)
    text += kPieces[data[i] % (sizeof(kPieces) / sizeof(kPieces[0]))];
  check_answer(text, cut);
  return 0;
}
