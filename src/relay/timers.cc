#include "relay/timers.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

namespace original_dst {

Timers::~Timers() { free(heap_); }

void Timers::place(size_t at, Timed* timed) {
  heap_[at] = timed;
  timed->timer_index = at + 1;
}

void Timers::sift_up(size_t at) {
  Timed* const timed = heap_[at];
  while (at > 0) {
    const size_t parent = (at - 1) / 2;
    if (heap_[parent]->due <= timed->due) break;
    place(at, heap_[parent]);
    at = parent;
  }
  place(at, timed);
}

void Timers::sift_down(size_t at) {
  Timed* const timed = heap_[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= count_) break;
    if (child + 1 < count_ && heap_[child + 1]->due < heap_[child]->due) child++;
    if (timed->due <= heap_[child]->due) break;
    place(at, heap_[child]);
    at = child;
  }
  place(at, timed);
}

int Timers::arm(Timed* timed, uint64_t due) {
  if (timed->timer_index == 0) {
    if (count_ == room_) {
      const size_t room = room_ == 0 ? 64 : room_ * 2;
      void* const heap = realloc(heap_, room * sizeof(void*));
      if (heap == nullptr) return -ENOMEM;
      heap_ = static_cast<Timed**>(heap);
      room_ = room;
    }
    place(count_++, timed);
  }
  timed->due = due;
  const size_t at = timed->timer_index - 1;
  sift_up(at);
  sift_down(timed->timer_index - 1);
  return 0;
}

void Timers::disarm(Timed* timed) {
  if (timed->timer_index == 0) return;
  const size_t at = timed->timer_index - 1;
  timed->timer_index = 0;
  Timed* const last = heap_[--count_];
  if (last == timed) return;
  place(at, last);
  sift_up(at);
  sift_down(last->timer_index - 1);
}

uint64_t monotonic_us() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace original_dst
