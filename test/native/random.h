// Numbers that a seed decides, the same on every machine.
#ifndef ORIGINAL_DST_TEST_RANDOM_H_
#define ORIGINAL_DST_TEST_RANDOM_H_

#include <stdint.h>
#include <stdlib.h>

inline uint64_t random_state = 1;

inline void seed_random(const char* text) {
  random_state = strtoull(text, nullptr, 10) * 2654435761U + 1;
}

// 0 to limit - 1
inline uint32_t random_below(uint32_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>(random_state >> 32) % limit;
}

#endif  // ORIGINAL_DST_TEST_RANDOM_H_
