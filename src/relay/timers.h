// Deadlines, the soonest first.
#ifndef ORIGINAL_DST_RELAY_TIMERS_H_
#define ORIGINAL_DST_RELAY_TIMERS_H_

#include <stddef.h>
#include <stdint.h>

namespace original_dst {

// Base of what has a deadline.
struct Timed {
  uint64_t due = 0;        // milliseconds of CLOCK_MONOTONIC
  size_t timer_index = 0;  // place in the heap, from 1; 0: not armed
};

// A binary heap of pointers. Traffic does not touch it: a deadline that has moved away is found out
// when the old one comes, and is armed anew then.
class Timers {
 public:
  Timers() = default;
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;
  ~Timers();

  // Arms it, or brings its deadline forward or back. Returns 0 or -ENOMEM.
  int arm(Timed* timed, uint64_t due);
  void disarm(Timed* timed);
  // The soonest, or null.
  Timed* first() const { return count_ == 0 ? nullptr : heap_[0]; }
  // UINT64_MAX where there is none.
  uint64_t first_due() const { return count_ == 0 ? UINT64_MAX : heap_[0]->due; }

 private:
  void place(size_t at, Timed* timed);
  void sift_up(size_t at);
  void sift_down(size_t at);

  Timed** heap_ = nullptr;
  size_t count_ = 0;
  size_t room_ = 0;
};

// Of CLOCK_MONOTONIC.
uint64_t monotonic_us();
inline uint64_t monotonic_ms() { return monotonic_us() / 1000; }

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_TIMERS_H_
