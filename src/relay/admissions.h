// How many connections a listener may have at a time, how many of them undecided, and how many of
// one client.
#ifndef ORIGINAL_DST_RELAY_ADMISSIONS_H_
#define ORIGINAL_DST_RELAY_ADMISSIONS_H_

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// 0: no limit. The order is that of lib/relay/admission.ts.
struct AdmissionLimits {
  uint32_t connections;
  uint32_t pending;          // undecided
  uint32_t per_client;       // a client: an IPv4 address, or a network of IPv6 with 64 bits
  uint32_t rate_per_client;  // new ones in a second, after as many at once

  bool any() const { return (connections | pending | per_client | rate_per_client) != 0; }
};
static_assert(sizeof(AdmissionLimits) == 16, "lib/relay/admission.ts knows this layout");

enum Admitted : uint8_t {
  kYes,
  kTooMany,
  kTooManyPending,
  kTooManyOfClient,
  kTooFast,
  kNoHeader,    // of the PROXY protocol, from a peer that must send one
  kNotRunning,  // destroyed before it had said enough
};
constexpr size_t kRefusalReasons = kNotRunning;

class Admissions;

// One connection that counts, until this is destroyed: on whatever thread that is.
class Admission {
 public:
  Admission() = default;
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;
  Admission(Admission&& other) noexcept { *this = static_cast<Admission&&>(other); }
  Admission& operator=(Admission&& other) noexcept;
  ~Admission() { release(); }

  // It is not decided about yet; false when too many are not. Again: as before.
  bool wait();
  // It has been.
  void decided();
  void release();

 private:
  friend class Admissions;
  Admissions* owner_ = nullptr;
  uint64_t client_ = 0;
  bool pending_ = false;
};

// Counted by reference: by the listener, and by every admission. May be used from several threads.
class Admissions {
 public:
  static Admissions* create(const AdmissionLimits& limits);
  void unref();

  Admitted admit(const Endpoint& client, uint64_t now_ms, Admission* to);

 private:
  friend class Admission;
  struct Client {
    uint64_t key;  // 0: the place is free
    uint32_t open;
    double due_ms;  // when the next one may come if all come evenly (GCRA)
  };

  explicit Admissions(const AdmissionLimits& limits) : limits_(limits) {}
  ~Admissions();

  bool counts(uint64_t client) const;
  bool idle(const Client& client, uint64_t now_ms) const;
  // Its place, or the free one that is to be its own.
  Client* find(uint64_t key);
  // For one more client. False: there is no memory.
  bool make_room(uint64_t now_ms);
  // Returns whether nobody refers to this any more.
  bool drop(const Admission& one);

  const AdmissionLimits limits_;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  size_t references_ = 1;
  uint32_t open_ = 0;
  uint32_t pending_ = 0;
  Client* clients_ = nullptr;  // open addressing
  size_t size_ = 0;            // a power of two, or 0
  size_t used_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_ADMISSIONS_H_
