#include "relay/verdicts.h"

#include <string.h>

#include "socket/mutex.h"

namespace original_dst {

namespace {

bool same(const Endpoint& a, const Endpoint& b) { return memcmp(&a, &b, sizeof(a)) == 0; }

// FNV-1a
uint32_t hash(const Endpoint& endpoint) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&endpoint);
  uint32_t value = 2166136261U;
  for (size_t i = 0; i < sizeof(endpoint); i++) value = (value ^ bytes[i]) * 16777619U;
  return value;
}

}  // namespace

Verdicts::Entry* Verdicts::entry(const Endpoint& destination) {
  const size_t first = hash(destination);
  for (size_t i = 0; i < kTries; i++) {
    Entry* const at = &entries_[(first + i) % kRoom];
    if (at->verdict != kUndecided && same(at->destination, destination)) return at;
  }
  return nullptr;
}

void Verdicts::set(const Endpoint& destination, Verdict verdict, uint64_t until_ms, bool tproxy) {
  const Locked locked(&mutex_);
  Entry* place = entry(destination);
  if (place == nullptr) {
    // The one of those in reach that ends first; one that is free or over has ended before all.
    const size_t first = hash(destination);
    place = &entries_[first % kRoom];
    for (size_t i = 1; i < kTries; i++) {
      Entry* const at = &entries_[(first + i) % kRoom];
      if (at->until < place->until) place = at;
    }
  }
  *place = {destination, until_ms, verdict, tproxy};
}

void Verdicts::revoke(const Endpoint& destination) {
  const Locked locked(&mutex_);
  Entry* const place = entry(destination);
  if (place != nullptr) *place = {};
}

void Verdicts::revoke_all() {
  const Locked locked(&mutex_);
  for (Entry& one : entries_) one = {};
}

Verdict Verdicts::find(const Endpoint& destination, uint64_t now_ms, bool* tproxy) {
  const Locked locked(&mutex_);
  const Entry* const place = entry(destination);
  if (place == nullptr || now_ms >= place->until) return kUndecided;
  *tproxy = place->tproxy;
  return place->verdict;
}

}  // namespace original_dst
