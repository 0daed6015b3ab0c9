// How long things have taken: counters in memory that TypeScript reads.
#ifndef ORIGINAL_DST_RELAY_HISTOGRAM_H_
#define ORIGINAL_DST_RELAY_HISTOGRAM_H_

#include <stddef.h>
#include <stdint.h>

#include "relay/counter.h"

namespace original_dst {

constexpr size_t kBounds = 14;

struct Histogram {
  // Of those that took at most so long, and longer than the bound before.
  double counts[kBounds + 1];
  double ms;  // all of them together
};
static_assert(sizeof(Histogram) == 128, "lib/relay/histogram.ts knows this layout");

// Upper bounds in microseconds. TypeScript has them from here.
constexpr uint64_t kDialBounds[kBounds] = {500,     1000,    2500,    5000,    10000,
                                           25000,   50000,   100000,  250000,  500000,
                                           1000000, 2500000, 5000000, 10000000};
constexpr uint64_t kDurationBounds[kBounds] = {
    1000,    5000,     10000,    50000,     100000,     500000,     1000000,
    5000000, 15000000, 60000000, 300000000, 1800000000, 7200000000, 43200000000};

// By the one thread that writes it.
inline void observe(Histogram* histogram, const uint64_t (&bounds)[kBounds], uint64_t us) {
  size_t at = 0;
  while (at < kBounds && us > bounds[at]) at++;
  add_to(&histogram->counts[at], 1);
  add_to(&histogram->ms, static_cast<double>(us) / 1000);
}

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_HISTOGRAM_H_
