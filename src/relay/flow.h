// One direction of a relay: bytes from one socket to another, none lost, none twice, in order.
#ifndef ORIGINAL_DST_RELAY_FLOW_H_
#define ORIGINAL_DST_RELAY_FLOW_H_

#include <stddef.h>
#include <stdint.h>

#include "relay/pipe_pool.h"

namespace original_dst {

// What the flows of one thread share. The scratch buffer holds nothing between two calls.
struct FlowTools {
  static constexpr size_t kScratchSize = size_t{64} * 1024;
  uint8_t* scratch;
  PipePool pipes;
};

class Flow {
 public:
  enum class State {
    kWaiting,  // for the source to be readable or the sink to be writable
    kMore,     // its turn is over, there may be more to do
    kDone,     // the source has ended and the sink was told
    kFailed,   // error() and failed_sink() say what and where
  };

  Flow() = default;
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow();

  // Both descriptors must be non-blocking stream sockets with SO_OOBINLINE; the flow does not own
  // them. `fresh_sink`: nothing has been sent on it, and nobody else has descriptors of it.
  void attach(int source, int sink, bool fresh_sink);
  // Bytes to be sent ahead of everything the source has. Copied. Returns 0 or -ENOMEM.
  int hold(const void* bytes, size_t length);

  // What epoll reported, edge-triggered. `thorough`: the peer has ended, failed, or sent urgent
  // data, so that a short read does not mean that nothing is left. `urgent`: it has sent urgent
  // data.
  void source_ready(bool thorough, bool urgent);
  void sink_ready() { writable_ = true; }
  // Whoever reads from the source ahead of the flow: is there something to be read; and what became
  // of that.
  bool readable() const { return readable_; }
  void source_drained() { readable_ = false; }
  void source_read_short() { readable_ = thorough_; }
  // Something has been sent to the sink ahead of the flow.
  void has_spoken() { spoken_ = true; }
  // Another socket in the place of one that nothing has come from or gone to.
  void replace_source(int source);
  void replace_sink(int sink);

  // Moves bytes until one side blocks, or for one turn. `last`: once this flow has ended its relay
  // closes.
  State pump(FlowTools& tools, bool last);
  // Gives back what was borrowed; bytes underway are dropped.
  void release(FlowTools& tools);

  bool done() const { return done_; }
  // Is it waiting for the sink to be writable?
  bool blocked() const { return !writable_; }
  bool bytes_underway() const { return held_ != nullptr || in_pipe_ > 0; }
  // Bytes that the sink's socket has taken.
  uint64_t moved() const { return moved_; }
  int error() const { return error_; }
  bool failed_sink() const { return failed_sink_; }

 private:
  // These return false when the flow has failed.
  bool send_held();
  bool drain_pipe();
  bool fill_pipe(FlowTools& tools);
  bool copy(FlowTools& tools);
  size_t read(uint8_t* to, size_t room);
  size_t read_twice(uint8_t* to, size_t room);
  bool finish(bool last);
  bool fail(int error, bool sink);
  void undelay();
  void return_pipe(FlowTools& tools);

  uint64_t moved_ = 0;
  uint8_t* held_ = nullptr;  // read, but not yet taken by the sink; malloc
  size_t held_at_ = 0;
  size_t held_end_ = 0;
  size_t in_pipe_ = 0;
  size_t spliced_ = 0;  // since the source was last empty
  Pipe pipe_;
  int source_ = -1;
  int sink_ = -1;
  int broken_ = 0;  // errno of the source, told once the bytes before it are through
  int met_ = 0;     // likewise, while there may be bytes before it to be read
  int error_ = 0;
  bool failed_sink_ = false;
  bool readable_ = false;
  bool writable_ = true;
  bool thorough_ = false;
  bool urgent_ = false;       // the source has sent urgent data
  bool held_urgent_ = false;  // held_ is one urgent byte
  bool bulk_ = false;         // splice; else copy
  bool refused_ = false;      // these sockets cannot be spliced
  bool fresh_sink_ = false;
  bool undelayed_ = false;
  bool spoken_ = false;
  bool ended_ = false;
  bool done_ = false;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_FLOW_H_
