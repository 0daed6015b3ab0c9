// Numbers in memory that a relay thread writes and TypeScript reads at any time: aligned doubles,
// stored in one piece.
#ifndef ORIGINAL_DST_RELAY_COUNTER_H_
#define ORIGINAL_DST_RELAY_COUNTER_H_

#include <stdint.h>
#include <string.h>

namespace original_dst {

inline void set_counter(double* counter, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  __atomic_store_n(reinterpret_cast<uint64_t*>(counter), bits, __ATOMIC_RELAXED);
}

// By the one thread that writes it.
inline void add_to(double* counter, double amount) { set_counter(counter, *counter + amount); }

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_COUNTER_H_
