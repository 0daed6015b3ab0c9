// What there is to tell of one connection to a listener, where somebody wants to know.
#ifndef ORIGINAL_DST_RELAY_RECORD_H_
#define ORIGINAL_DST_RELAY_RECORD_H_

#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "names/first_bytes.h"
#include "socket/endpoint.h"

namespace original_dst {

struct RelayListener;

struct Record {
  // The order is that of lib/relay/native-records.ts, as is that of the first three.
  enum Kind : uint8_t { kUnknown = 0, kRedirect = 1, kTproxy = 2, kCaptured = 3, kProxied = 4 };
  // Above those of RelayReason.
  enum Outcome : uint8_t { kByVerdict = 6, kNotAdmitted = 7, kClientGone = 8, kByNoProxy = 9 };

  RelayListener* listener = nullptr;
  uint64_t accepted_us = 0;  // of CLOCK_MONOTONIC
  uint64_t over_us = 0;
  double dial_us = -1;  // until there was a connection; -1: there was none
  Endpoint client = {};
  Endpoint destination = {};  // family 0: nobody has found out
  Kind kind = kUnknown;
  uint8_t verdict = 0;  // enum Verdict; kUndecided: it came to none
  uint8_t outcome = 0;  // RelayReason or Outcome
  uint8_t side = 2;     // RelaySide
  int32_t error = 0;    // errno; of kNotAdmitted: Admitted; of kByNoProxy: HandshakeFailure
  uint64_t to_upstream = 0;
  uint64_t to_client = 0;
  uint8_t protocol = kNotLookedAt;
  uint8_t name_length = 0;
  std::unique_ptr<char[]> name;
  Record* next = nullptr;

  // What its first bytes say.
  void set_name(const FirstBytes& first);
};

// A list of them, oldest first, which are the list's own.
class Records {
 public:
  Records() = default;
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;
  ~Records() { clear(); }

  size_t count() const { return count_; }
  void add(std::unique_ptr<Record> one);
  // Moves all of the other's to the end.
  void take(Records* from);
  // The first, or null.
  std::unique_ptr<Record> shift();
  const Record* first() const { return first_; }
  void clear() {
    while (shift() != nullptr) continue;
  }

 private:
  Record* first_ = nullptr;
  Record** tail_ = &first_;
  size_t count_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_RECORD_H_
