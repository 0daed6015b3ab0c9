// Tells JavaScript which sockets can be read.
#ifndef ORIGINAL_DST_GLUE_READINESS_H_
#define ORIGINAL_DST_GLUE_READINESS_H_

#include <napi.h>
#include <stdint.h>

#include "datagram/loop_poller.h"
#include "datagram/poller.h"

namespace original_dst {

// For one environment: in the loop that runs JavaScript where that is libuv's, which is on Node;
// elsewhere in a thread, which has to wake that of JavaScript even for a single datagram.
//
// Only that something can be read is said, by a number. A thread-safe function for each datagram
// would need a queue, and a queue hides the back-pressure.
class Readiness {
 public:
  struct Watch {
    uint32_t id = 0;
    LoopPoller::Watch* in_loop = nullptr;
  };
  using Ended = void (*)(void* context);

  Readiness() = default;
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // `on_ready` is called with the number of what can be read. `ended` is called when the
  // environment ends: `on_ready` is not called any more, and the sockets may be closed. Returns 0
  // or -errno, and has let go of everything then.
  int start(napi_env env, const Napi::Value& on_ready, bool on_node, Ended ended, void* context);

  // Is what can be read said at every turn of the loop until rest(), or once for each arm()?
  bool repeats() const { return loop_poller_.running(); }

  // 0 or -errno. A watch ends, by remove(), before its socket is closed.
  int add(int fd, uint32_t id, Watch* watch);
  int arm(int fd, const Watch& watch);
  void rest(const Watch& watch);
  void remove(int fd, const Watch& watch);

  // Is the event loop kept alive?
  void ref(bool on);

 private:
  bool start_in_loop(const Napi::Value& on_ready);
  void stop();
  static void on_teardown(void* self);
  static void on_loop_teardown(napi_async_cleanup_hook_handle hook, void* self);
  static void on_ready_in_thread(void* ready, uint32_t id);
  static void on_ready_in_loop(void* self, uint32_t id);
  static void call_ready(napi_env env, napi_value on_ready, void* context, void* data);

  napi_env env_ = nullptr;
  Ended ended_ = nullptr;
  void* context_ = nullptr;
  bool hooked_ = false;
  napi_async_cleanup_hook_handle loop_hook_ = nullptr;
  napi_threadsafe_function ready_ = nullptr;
  Napi::FunctionReference on_ready_;
  LoopPoller loop_poller_;
  Poller poller_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_READINESS_H_
