// Waiting, in the loop that runs JavaScript, until sockets can be read.
#ifndef ORIGINAL_DST_DATAGRAM_LOOP_POLLER_H_
#define ORIGINAL_DST_DATAGRAM_LOOP_POLLER_H_

#include <stdint.h>

struct uv_loop_s;

namespace original_dst {

// uv_poll(3) of libuv. Nobody is woken but who reads, and nobody has to ask again: `ready` is
// called at every turn of the loop for as long as there is something to read. For Node alone: Bun
// has these functions and aborts in them, and Deno has not got them (poller.h is for those).
class LoopPoller {
 public:
  using Ready = void (*)(void* context, uint32_t id);
  using Stopped = void (*)(void* context);
  struct Watch;

  LoopPoller() = default;
  ~LoopPoller() { stop(nullptr, nullptr); }
  LoopPoller(const LoopPoller&) = delete;
  LoopPoller& operator=(const LoopPoller&) = delete;

  // False: no memory, or no libuv in this process.
  bool start(uv_loop_s* loop, Ready ready, void* context);
  bool running() const { return shared_ != nullptr; }

  // Ends every watch: `ready` is not called any more. `stopped` is called once the loop has let go
  // of the last of them, perhaps at once; until then the loop must be run. A second call does
  // nothing, not even that.
  void stop(Stopped stopped, void* context);

  // Watches a socket; it keeps no loop alive. Returns 0 or -errno. The watch is the poller's, and
  // ends before its socket is closed.
  int add(int fd, uint32_t id, Watch** watch);
  static void remove(Watch* watch);

  // Not to be told for a while, and to be told again. Any number of times.
  static void rest(Watch* watch);
  static int arm(Watch* watch);

 private:
  struct Shared;

  Shared* shared_ = nullptr;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_DATAGRAM_LOOP_POLLER_H_
