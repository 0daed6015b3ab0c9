#include "glue/readiness.h"

#include <errno.h>

// What only Node is asked for: the addon must load where they are missing.
#pragma weak napi_add_async_cleanup_hook
#pragma weak napi_get_uv_event_loop
#pragma weak napi_make_callback
#pragma weak napi_remove_async_cleanup_hook

namespace original_dst {

namespace {

// Left pending it would be a mere warning (DEP0168).
void report_exception(napi_env env, napi_status status) {
  if (status != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

// The loop has let go of the last socket: the environment may end.
void on_loop_stopped(void* hook) {
  napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(hook));
}

}  // namespace

Readiness::~Readiness() {
  if (hooked_) napi_remove_env_cleanup_hook(env_, on_teardown, this);
  if (loop_hook_ != nullptr) napi_remove_async_cleanup_hook(loop_hook_);
  stop();
}

int Readiness::start(napi_env env, const Napi::Value& on_ready, bool on_node, Ended ended,
                     void* context) {
  env_ = env;
  ended_ = ended;
  context_ = context;
  if (!on_ready.IsFunction()) return -EINVAL;
  const Napi::String name = Napi::String::New(env, "original-dst datagrams");
  if (napi_create_threadsafe_function(env, on_ready, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                      call_ready, &ready_) != napi_ok) {
    return -ENOMEM;
  }
  napi_unref_threadsafe_function(env, ready_);
  if (on_node && start_in_loop(on_ready)) return 0;
  // After the function's own hook, hence run before it: hooks run in reverse, and the thread must
  // be gone before the function is.
  hooked_ = napi_add_env_cleanup_hook(env, on_teardown, this) == napi_ok;
  const int status = poller_.start(on_ready_in_thread, ready_);
  // Not left to the destructor: the garbage collector is in no hurry, and the descriptors are
  // perhaps what is short.
  if (status != 0) stop();
  return status;
}

// The thread-safe function is there as well: it alone keeps the loop alive or not, whether sockets
// are read or rest.
bool Readiness::start_in_loop(const Napi::Value& on_ready) {
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop == nullptr || napi_get_uv_event_loop(env_, &loop) != napi_ok ||
      !loop_poller_.start(loop, on_ready_in_loop, this)) {
    return false;
  }
  // The handles must be closed before the loop is: the environment waits for that.
  if (napi_add_async_cleanup_hook(env_, on_loop_teardown, this, &loop_hook_) != napi_ok) {
    loop_poller_.stop(nullptr, nullptr);
    return false;
  }
  on_ready_ = Napi::Persistent(on_ready.As<Napi::Function>());
  return true;
}

void Readiness::stop() {
  loop_poller_.stop(nullptr, nullptr);
  poller_.stop();
  if (ready_ != nullptr) napi_release_threadsafe_function(ready_, napi_tsfn_abort);
  ready_ = nullptr;
}

void Readiness::on_teardown(void* self) {
  auto* const readiness = static_cast<Readiness*>(self);
  readiness->hooked_ = false;
  readiness->stop();
  readiness->ended_(readiness->context_);
}

void Readiness::on_loop_teardown(napi_async_cleanup_hook_handle hook, void* self) {
  auto* const readiness = static_cast<Readiness*>(self);
  readiness->loop_hook_ = nullptr;
  readiness->loop_poller_.stop(on_loop_stopped, hook);
  readiness->stop();
  readiness->ended_(readiness->context_);
}

// On the poller's thread. The number itself travels in the pointer. The queue has no limit and
// needs none: each socket is in it once at most.
void Readiness::on_ready_in_thread(void* ready, uint32_t id) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a number is all there is to say
  void* data = reinterpret_cast<void*>(static_cast<uintptr_t>(id));
  napi_call_threadsafe_function(static_cast<napi_threadsafe_function>(ready), data,
                                napi_tsfn_nonblocking);
}

// On the thread of JavaScript; env is null once that is ending.
void Readiness::call_ready(napi_env env, napi_value on_ready, void* /*context*/, void* data) {
  if (env == nullptr) return;
  napi_value receiver = nullptr;
  napi_value number = nullptr;
  napi_get_undefined(env, &receiver);
  napi_create_uint32(env, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(data)), &number);
  report_exception(env, napi_call_function(env, receiver, on_ready, 1, &number, nullptr));
}

// From the loop itself, where nobody has opened a scope yet.
void Readiness::on_ready_in_loop(void* self, uint32_t id) {
  const auto* const readiness = static_cast<Readiness*>(self);
  const napi_env env = readiness->env_;
  const Napi::HandleScope scope(env);
  napi_value on_ready = readiness->on_ready_.Value();
  napi_value number = nullptr;
  napi_create_uint32(env, id, &number);
  // The function is its own receiver: there must be one.
  report_exception(env, napi_make_callback(env, nullptr, on_ready, on_ready, 1, &number, nullptr));
}

int Readiness::add(int fd, uint32_t id, Watch* watch) {
  watch->id = id;
  return repeats() ? loop_poller_.add(fd, id, &watch->in_loop) : poller_.add(fd, id);
}

int Readiness::arm(int fd, const Watch& watch) {
  return watch.in_loop != nullptr ? LoopPoller::arm(watch.in_loop) : poller_.arm(fd, watch.id);
}

void Readiness::rest(const Watch& watch) {
  if (watch.in_loop != nullptr) LoopPoller::rest(watch.in_loop);
}

void Readiness::remove(int fd, const Watch& watch) {
  if (watch.in_loop != nullptr) {
    LoopPoller::remove(watch.in_loop);
  } else {
    poller_.remove(fd);
  }
}

void Readiness::ref(bool on) {
  if (ready_ == nullptr) return;
  if (on) {
    napi_ref_threadsafe_function(env_, ready_);
  } else {
    napi_unref_threadsafe_function(env_, ready_);
  }
}

}  // namespace original_dst
