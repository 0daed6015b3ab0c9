// What TypeScript has decided about destinations, for a thread that accepts connections to ask.
#ifndef ORIGINAL_DST_RELAY_VERDICTS_H_
#define ORIGINAL_DST_RELAY_VERDICTS_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

enum Verdict : uint8_t { kUndecided = 0, kRelayIt = 1, kResetIt = 2 };

// By exact destination, each for a limited time, at most kRoom of them. One that is pushed out is
// only asked for again. May be used from several threads.
class Verdicts {
 public:
  // `tproxy`: how the connection came here that the verdict was made on, for those who count; else
  // it was redirected.
  void set(const Endpoint& destination, Verdict verdict, uint64_t until_ms, bool tproxy = false);
  void revoke(const Endpoint& destination);
  void revoke_all();
  Verdict find(const Endpoint& destination, uint64_t now_ms, bool* tproxy);

 private:
  static constexpr size_t kRoom = 4096;
  static constexpr size_t kTries = 8;
  struct Entry {
    Endpoint destination;
    uint64_t until;
    Verdict verdict;
    bool tproxy;
  };

  // The entry of the destination, or null.
  Entry* entry(const Endpoint& destination);

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  Entry entries_[kRoom] = {};
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_VERDICTS_H_
