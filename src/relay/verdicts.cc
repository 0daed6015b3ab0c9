#include "relay/verdicts.h"

#include <string.h>

#include <utility>

#include "relay/timers.h"
#include "socket/mutex.h"

namespace original_dst {

namespace {

bool same(const Endpoint& a, const Endpoint& b) { return memcmp(&a, &b, sizeof(a)) == 0; }

// FNV-1a
uint32_t hash(uint32_t value, const void* from, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (size_t i = 0; i < size; i++) value = (value ^ bytes[i]) * 16777619U;
  return value;
}

size_t hash(const Endpoint& destination, const Wanted& wanted) {
  return hash(hash(2166136261U, &destination, sizeof(destination)), wanted.name,
              wanted.name_length);
}

}  // namespace

bool Verdicts::Entry::is(const Endpoint& place, const Wanted& wanted) const {
  return verdict != kUndecided && same(destination, place) && protocol == wanted.protocol &&
         ech == wanted.ech && name_length == wanted.name_length &&
         (name_length == 0 || memcmp(name.get(), wanted.name, name_length) == 0);
}

Verdicts::Entry* Verdicts::entry(const Endpoint& destination, const Wanted& wanted) {
  if (room_ == 0) return nullptr;
  const size_t first = hash(destination, wanted);
  for (size_t i = 0; i < kTries; i++) {
    Entry* const at = &entries_[(first + i) % room_];
    if (at->is(destination, wanted)) return at;
  }
  return nullptr;
}

// One that is free has ended before all others.
Verdicts::Entry* Verdicts::place_for(size_t hash) {
  Entry* place = &entries_[hash % room_];
  for (size_t i = 1; i < kTries; i++) {
    Entry* const at = &entries_[(hash + i) % room_];
    if (at->until < place->until) place = at;
  }
  return place;
}

bool Verdicts::grow(uint64_t now_ms) {
  if (room_ == kMostRoom) return false;
  const size_t before = room_;
  const std::unique_ptr<Entry[]> old = std::move(entries_);
  const size_t room = before == 0 ? kFirstRoom : before * 2;
  entries_.reset(new Entry[room]());
  room_ = room;
  for (size_t i = 0; i < before; i++) {
    Entry& one = old[i];
    if (one.until <= now_ms) continue;
    Wanted wanted;
    wanted.name_length = one.name_length;
    wanted.name = one.name.get();
    *place_for(hash(one.destination, wanted)) = std::move(one);
  }
  return true;
}

void Verdicts::set(const Endpoint& destination, const Wanted& wanted, Verdict verdict,
                   uint64_t until_ms, bool tproxy, Route::Ref route) {
  std::unique_ptr<char[]> name;
  if (wanted.name_length > 0) {
    name.reset(new char[wanted.name_length]);
    memcpy(name.get(), wanted.name, wanted.name_length);
  }
  const Locked locked(&mutex_);
  Entry* place = entry(destination, wanted);
  if (place == nullptr) {
    const uint64_t now_ms = monotonic_ms();
    const size_t first = hash(destination, wanted);
    if (room_ == 0) grow(now_ms);
    place = place_for(first);
    while (place->until > now_ms && grow(now_ms)) place = place_for(first);
  }
  *place = {destination, until_ms,           verdict,         tproxy,          wanted.protocol,
            wanted.ech,  wanted.name_length, std::move(name), std::move(route)};
}

void Verdicts::revoke(const Endpoint& destination) {
  const Locked locked(&mutex_);
  for (size_t i = 0; i < room_; i++) {
    Entry& one = entries_[i];
    if (same(one.destination, destination)) one = {};
  }
}

void Verdicts::revoke(const char* name, size_t length) {
  const Locked locked(&mutex_);
  for (size_t i = 0; i < room_; i++) {
    Entry& one = entries_[i];
    if (one.name_length == length && memcmp(one.name.get(), name, length) == 0) one = {};
  }
}

void Verdicts::revoke_all() {
  const Locked locked(&mutex_);
  for (size_t i = 0; i < room_; i++) entries_[i] = {};
}

Verdict Verdicts::find(const Endpoint& destination, const Wanted& wanted, uint64_t now_ms,
                       bool* tproxy, Route::Ref* route) {
  const Locked locked(&mutex_);
  const Entry* const place = entry(destination, wanted);
  if (place == nullptr || now_ms >= place->until) return kUndecided;
  *tproxy = place->tproxy;
  *route = place->route;
  return place->verdict;
}

}  // namespace original_dst
