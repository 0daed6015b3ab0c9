// What TypeScript has decided about destinations, for a thread that accepts connections to ask.
#ifndef ORIGINAL_DST_RELAY_VERDICTS_H_
#define ORIGINAL_DST_RELAY_VERDICTS_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "names/first_bytes.h"
#include "relay/route.h"
#include "socket/endpoint.h"

namespace original_dst {

enum Verdict : uint8_t { kUndecided = 0, kRelayIt = 1, kResetIt = 2 };

// What a verdict about a destination is about besides: what the client asks for there, if that was
// looked at. A neighbour of the same address is another one.
struct Wanted {
  Wanted() = default;
  explicit Wanted(const FirstBytes& first)
      : protocol(first.protocol),
        ech(first.ech),
        name_length(first.name_length),
        name(first.name) {}

  uint8_t protocol = kNotLookedAt;
  uint8_t ech = 0;
  uint8_t name_length = 0;
  const char* name = nullptr;
};

// By exact destination and what is wanted there, each for a limited time, at most kMostRoom of
// them. One that is pushed out is only asked for again. May be used from several threads.
class Verdicts {
 public:
  // `tproxy`: how the connection came here that the verdict was made on, for those who count; else
  // it was redirected.
  // `route`: another way than straight to the destination.
  void set(const Endpoint& destination, const Wanted& wanted, Verdict verdict, uint64_t until_ms,
           bool tproxy = false, Route::Ref route = {});
  // Of a destination, whatever is wanted there; of a name, wherever it is wanted.
  void revoke(const Endpoint& destination);
  void revoke(const char* name, size_t length);
  void revoke_all();
  Verdict find(const Endpoint& destination, const Wanted& wanted, uint64_t now_ms, bool* tproxy,
               Route::Ref* route);

 private:
  // Powers of two.
  static constexpr size_t kFirstRoom = 256;
  static constexpr size_t kMostRoom = 65536;
  static constexpr size_t kTries = 8;
  struct Entry {
    Endpoint destination;
    uint64_t until;
    Verdict verdict;
    bool tproxy;
    uint8_t protocol;
    uint8_t ech;
    uint8_t name_length;
    std::unique_ptr<char[]> name;
    Route::Ref route;

    bool is(const Endpoint& place, const Wanted& wanted) const;
  };

  // The entry of those two, or null.
  Entry* entry(const Endpoint& destination, const Wanted& wanted);
  // Where one of that hash may be put: the one of those in reach that ends first.
  Entry* place_for(size_t hash);
  // Twice the room, for those that are not over. False: there is all the room that there may be.
  bool grow(uint64_t now_ms);

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::unique_ptr<Entry[]> entries_;
  size_t room_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_VERDICTS_H_
