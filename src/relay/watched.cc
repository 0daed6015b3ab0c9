#include "relay/watched.h"

#include <errno.h>
#include <stdlib.h>

namespace original_dst {

WatchedTable::~WatchedTable() { free(places_); }

uint64_t WatchedTable::key_of(uint32_t index, uint32_t generation) {
  return uint64_t{generation} << 32 | uint64_t{index} << 1;
}

int WatchedTable::enter(Watched* one) {
  if (one->key != 0) return 0;
  if (free_ == 0) {
    if (count_ == room_) {
      const uint32_t room = room_ == 0 ? 64 : room_ * 2;
      void* const places = realloc(places_, room * sizeof(Place));
      if (places == nullptr) return -ENOMEM;
      places_ = static_cast<Place*>(places);
      room_ = room;
    }
    places_[count_] = {nullptr, 0, 0};
    free_ = ++count_;
  }
  const uint32_t index = free_ - 1;
  Place& place = places_[index];
  free_ = place.next_free;
  place.one = one;
  place.generation = place.generation == UINT32_MAX ? 1 : place.generation + 1;
  one->key = key_of(index, place.generation);
  return 0;
}

void WatchedTable::leave(Watched* one) {
  if (one->key == 0) return;
  const uint32_t index = static_cast<uint32_t>(one->key) >> 1;
  places_[index].one = nullptr;
  places_[index].next_free = free_;
  free_ = index + 1;
  one->key = 0;
}

Watched* WatchedTable::find(uint64_t key) const {
  const uint32_t index = static_cast<uint32_t>(key) >> 1;
  if (index >= count_ || places_[index].generation != key >> 32) return nullptr;
  return places_[index].one;
}

}  // namespace original_dst
