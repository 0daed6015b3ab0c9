// sources: src/relay/handshake.cc
// What proxies answer, whatever that is: it is taken in pieces as it is in one, no byte behind it
// is taken, and it comes to an end.
#include "relay/handshake.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>

using original_dst::Handshake;
using original_dst::kNoFailure;
using original_dst::ProxyProtocol;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

struct Course {
  Handshake::Heard heard = Handshake::Heard::kMore;
  size_t taken = 0;
  size_t asked = 0;
  int failure = 0;
  int status = 0;

  bool operator==(const Course& other) const {
    return heard == other.heard && taken == other.taken && asked == other.asked &&
           failure == other.failure && status == other.status;
  }
};

// `answer`: each byte of it comes once the one before has been acted upon, in pieces of `piece`.
Course follow(ProxyProtocol protocol, bool password, const std::string& answer, size_t piece) {
  Handshake handshake;
  handshake.begin(protocol, password);
  Course course;
  size_t at = 0;
  while (at < answer.size()) {
    const size_t size = std::min(piece, answer.size() - at);
    // A block of its own: the sanitizer sees each byte that is read behind it.
    auto* const exact = static_cast<uint8_t*>(malloc(size));
    memcpy(exact, answer.data() + at, size);
    size_t taken = 0;
    course.heard = handshake.take(exact, size, &taken);
    free(exact);
    check(taken <= size);
    course.taken += taken;
    at += taken;
    check(course.taken <= Handshake::kMost + 1);
    if (course.heard == Handshake::Heard::kAsk) {
      check(taken == size && protocol == ProxyProtocol::kSocks5);
      check(handshake.message() != Handshake::kPassword || password);
      course.asked++;
      check(course.asked <= 2);
    } else if (course.heard != Handshake::Heard::kMore) {
      break;
    } else {
      check(taken == size);
    }
  }
  course.failure = handshake.failure();
  course.status = handshake.status();
  check((course.failure != kNoFailure) == (course.heard == Handshake::Heard::kFailed));
  return course;
}

void check_answer(ProxyProtocol protocol, bool password, const std::string& answer) {
  const Course slow = follow(protocol, password, answer, 1);
  for (const size_t piece : {size_t{2}, size_t{3}, size_t{7}, answer.size()}) {
    const Course quick = follow(protocol, password, answer, piece == 0 ? 1 : piece);
    // More than was asked for is an answer to nothing, and shows only when it comes at once.
    if (quick.failure == original_dst::kTooMuch) continue;
    check(quick == slow);
  }
  if (slow.heard != Handshake::Heard::kConnected) return;
  // What the destination says is left alone, and changes nothing.
  const std::string alone = answer.substr(0, slow.taken);
  check(follow(protocol, password, alone + std::string(300, '\n'), 1) == slow);
  for (size_t cut = 0; cut < alone.size(); cut++) {
    const Course part = follow(protocol, password, alone.substr(0, cut), 1);
    check(part.heard == Handshake::Heard::kMore || part.heard == Handshake::Heard::kAsk);
  }
}

constexpr const char* kPieces[] = {"HTTP/1.", "0 ", "1 ", "200",  "100",      "407",  "502", " ",
                                   "OK",      "\r", "\n", "\r\n", "\r\n\r\n", "A: b", "2",   "x"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  const bool password = (data[0] & 1) != 0;
  std::string text;
  switch (data[0] >> 1 & 3) {
    case 0:
      check_answer(ProxyProtocol::kSocks5, password, rest);
      break;
    case 1:
      // Past the methods.
      check_answer(ProxyProtocol::kSocks5, password,
                   (password ? std::string("\5\2\1\0\5\0", 6) : std::string("\5\0\5\0", 4)) + rest);
      break;
    case 2:
      check_answer(ProxyProtocol::kHttp, password, rest);
      break;
    default:
      for (const char at : rest) {
        text += kPieces[static_cast<uint8_t>(at) % (sizeof(kPieces) / sizeof(kPieces[0]))];
      }
      check_answer(ProxyProtocol::kHttp, password, text);
  }
  return 0;
}
