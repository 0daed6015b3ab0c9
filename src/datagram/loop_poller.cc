#include "datagram/loop_poller.h"

#include <errno.h>
#include <uv.h>

#include <new>

// The process has them or not: the addon must load without.
#pragma weak uv_close
#pragma weak uv_is_active
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_poll_stop
#pragma weak uv_unref

namespace original_dst {

// Outlives the poller: libuv calls back about a handle that was closed at the loop's next turn.
struct LoopPoller::Shared {
  uv_loop_t* loop;
  Ready ready;
  void* context;
  Watch* first = nullptr;  // of those that are watched
  uint32_t handles = 0;    // which libuv has not let go of
  bool stopping = false;
  Stopped stopped = nullptr;
  void* stopped_context = nullptr;

  void let_go() {
    if (!stopping || handles > 0) return;
    if (stopped != nullptr) stopped(stopped_context);
    delete this;
  }
};

struct LoopPoller::Watch {
  uv_poll_t handle;
  Shared* shared;
  uint32_t id;
  Watch* next = nullptr;
  Watch* previous = nullptr;

  static Watch* of(uv_handle_t* handle) { return static_cast<Watch*>(handle->data); }

  static void on_ready(uv_poll_t* handle, int status, int /*events*/) {
    Watch* const watch = static_cast<Watch*>(handle->data);
    // After an error of the socket libuv has stopped. The reader learns of it by reading, which
    // takes it from the socket.
    if (status < 0) arm(watch);
    // Nothing of the watch behind this: it may have been removed by then.
    watch->shared->ready(watch->shared->context, watch->id);
  }

  static void on_closed(uv_handle_t* handle) {
    Watch* const watch = of(handle);
    Shared* const shared = watch->shared;
    delete watch;
    shared->handles--;
    shared->let_go();
  }
};

bool LoopPoller::start(uv_loop_s* loop, Ready ready, void* context) {
  if (uv_poll_init == nullptr || uv_close == nullptr) return false;
  shared_ = new (std::nothrow) Shared{loop, ready, context};
  return shared_ != nullptr;
}

void LoopPoller::stop(Stopped stopped, void* context) {
  Shared* const shared = shared_;
  if (shared == nullptr) return;
  shared_ = nullptr;
  while (shared->first != nullptr) remove(shared->first);
  shared->stopping = true;
  shared->stopped = stopped;
  shared->stopped_context = context;
  shared->let_go();
}

int LoopPoller::add(int fd, uint32_t id, Watch** watch) {
  Watch* const added = new (std::nothrow) Watch{{}, shared_, id};
  if (added == nullptr) return -ENOMEM;
  // libuv's own codes are -errno on Linux.
  const int status = uv_poll_init(shared_->loop, &added->handle, fd);
  if (status != 0) {
    delete added;
    return status;
  }
  added->handle.data = added;
  shared_->handles++;
  added->next = shared_->first;
  if (added->next != nullptr) added->next->previous = added;
  shared_->first = added;
  uv_unref(reinterpret_cast<uv_handle_t*>(&added->handle));
  const int armed = arm(added);
  if (armed != 0) {
    remove(added);
  } else {
    *watch = added;
  }
  return armed;
}

void LoopPoller::remove(Watch* watch) {
  Watch*& before = watch->previous != nullptr ? watch->previous->next : watch->shared->first;
  before = watch->next;
  if (watch->next != nullptr) watch->next->previous = watch->previous;
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->handle), Watch::on_closed);
}

void LoopPoller::rest(Watch* watch) { uv_poll_stop(&watch->handle); }

int LoopPoller::arm(Watch* watch) {
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(&watch->handle)) != 0) return 0;
  return uv_poll_start(&watch->handle, UV_READABLE, Watch::on_ready);
}

}  // namespace original_dst
