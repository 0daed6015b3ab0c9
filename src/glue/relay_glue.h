// Node-API side of relays and of servers that relay: lib/relay/engine.ts and lib/relay/listener.ts.
#ifndef ORIGINAL_DST_GLUE_RELAY_GLUE_H_
#define ORIGINAL_DST_GLUE_RELAY_GLUE_H_

#include <napi.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <utility>
#include <vector>

#include "ebpf/alias_table.h"
#include "glue/kernel_answer.h"
#include "glue/loop_glue.h"
#include "glue/undecided.h"
#include "host/recent_dials.h"
#include "names/first_bytes.h"
#include "relay/inspect.h"
#include "relay/listener.h"
#include "relay/relay.h"
#include "relay/thread.h"

namespace original_dst {

// All relays of one environment. Made with the exports and deleted by the environment's cleanup.
class RelayGlue {
 public:
  // What other parts of the addon have, and outlives every call and every thread.
  struct Shared {
    KernelAnswer* answer;  // the memory that TypeScript decides from
    FirstBytes* first;     // likewise
    LoopGlue* loop;
    AliasTables* aliases;
  };

  RelayGlue(Napi::Env env, const Shared& shared)
      : env_(env),
        answer_(shared.answer),
        first_(shared.first),
        loop_(shared.loop),
        dials_(shared.loop->dials()),
        aliases_(shared.aliases) {}

  // (onClosed: (count) => void, onGone: (token) => void) → the memory in which `count` ids of
  // closed relays are left before each call of onClosed, or -errno. onGone: see Watch.
  Napi::Value Start(const Napi::CallbackInfo& info);

  // () → memory for the next relays' slots (struct RelaySlot), or -errno
  Napi::Value Slab(const Napi::CallbackInfo&);

  // (id, client fd, upstream fd, struct RelayLimits as a Uint32Array, bytes for the upstream |
  // undefined, bytes for the client | undefined, thread) → 0 or -errno. The descriptors are
  // duplicated and stay the caller's.
  Napi::Value Add(const Napi::CallbackInfo& info);

  // (id, client fd, address, port, struct RelayLimits as a Uint32Array, bytes for the upstream |
  // undefined, thread, the program's first process, path, source address | null, source port, port
  // fallback, transparent, freebind, mark | null, interface | null, network namespace | -1) → 0, or
  // -errno and in the relay's slot the enum DialStep that failed. Dials, and relays; the descriptor
  // is duplicated and stays the caller's.
  Napi::Value Connect(const Napi::CallbackInfo& info);

  // (id, thread) → 0 or -errno
  Napi::Value Destroy(const Napi::CallbackInfo& info);

  // (id of a relay that onClosed has just told of) → of its hops that have failed, as many numbers
  // as struct HopFailure has, one after the other
  Napi::Value HopFailures(const Napi::CallbackInfo& info);

  // (on): does the possibility of a closed relay keep the event loop alive?
  Napi::Value Ref(const Napi::CallbackInfo& info);

  // ---- relay_listener_glue.cc ----

  // (address | null, port, listening fd that becomes the addon's | -1, backlog, transparent, mark |
  // null, enum DialPlan::Source, port fallback, struct RelayLimits as a Uint32Array, onUndecided:
  // (token, status, origin, size, fd, header) => void, memory for first bytes as a Uint8Array |
  // undefined, destination ports on which they are looked at as a sorted Uint16Array | undefined:
  // all, for how many ms, network namespace to listen in | -1, network namespace to dial in | -1,
  // struct AdmissionLimits as a Uint32Array, will ListenToo follow?, SO_REUSEPORT,
  // peers that send PROXY protocol headers | undefined: family, first and last address of each
  // range in 33 bytes, ms for a header) → [listener, memory of its struct ListenerStats] and the
  // bound address in scratch, or [-errno, enum DialStep]. Each connection that there is no verdict
  // about is given to onUndecided, with what readFacts answers and fills, its origin_number(),
  // and how many first bytes there are, which parseFirstBytes has been asked about, or -1: nobody
  // has looked; and the PROXY protocol's header that was taken off. Its token goes to Dial, Refuse
  // or Take; -1 says that the listener was closed and no relay of its is left.
  Napi::Value Listen(const Napi::CallbackInfo& info);

  // (listener that ListenToo was to follow, thread, onUndecided) → as Listen. Another thread
  // accepts from the same socket, and goes by the same verdicts and limits.
  Napi::Value ListenToo(const Napi::CallbackInfo& info);

  // (listener, destroy: are its relays to be closed too?) → 0 or -errno
  Napi::Value Unlisten(const Napi::CallbackInfo& info);

  // (listener) → its descriptor, which the thread closes after Unlisten, or -errno
  Napi::Value ListenerFd(const Napi::CallbackInfo& info);

  // (listener, address, port, verdict: 1 relay | 2 reset, for how many ms, did the connection come
  // by TPROXY?, enum Protocol | -1: nobody has looked, ECH, name | null, what MakeRoute has
  // returned | undefined: straight to the destination) → 0 or -errno
  Napi::Value SetVerdict(const Napi::CallbackInfo& info);

  // (listener, address | null, port, name | null) → 0 or -errno. Those of the address, of the name,
  // or all.
  Napi::Value RevokeVerdicts(const Napi::CallbackInfo& info);

  // ---- records_glue.cc ----

  // (listener, onRecords: (count, text) => void | null) → the memory of the numbers, or -errno.
  // From here on there is a record of each connection that the thread deals with by itself:
  // onRecords gets some at a time, kRecordNumbers of each in memory, and three lines of text: the
  // client's address, the destination's, and the name, each of which may be empty.
  Napi::Value SetRecords(const Napi::CallbackInfo& info);

  // () → the bounds of the histograms in struct ListenerStats, in microseconds: [dial, duration]
  Napi::Value Bounds(const Napi::CallbackInfo&);

  // (id, token of an undecided connection, address, port, thread, what MakeRoute has returned |
  // undefined: straight to that address) → 0 or -errno, and then the connection has been sent RST.
  // Dials, and relays.
  Napi::Value Dial(const Napi::CallbackInfo& info);

  // ([address, port, which request, ms for connect(2) | 0, …] of the hops, enum ProxyProtocol,
  // [greeting, password, request, …] as Uint8Arrays, version of the PROXY protocol's header | 0,
  // address that is told in it | null, port, name that is told in it as a Uint8Array) → a route for
  // Dial and SetVerdict, or -errno
  Napi::Value MakeRoute(const Napi::CallbackInfo& info);

  // (token) → 0 or -errno. Sends RST.
  Napi::Value Refuse(const Napi::CallbackInfo& info);

  // (token) → the descriptor, now the caller's, or -errno
  Napi::Value Take(const Napi::CallbackInfo& info);

  // (token) → 0 or -errno. From here on onGone is called with the token when the client is gone.
  Napi::Value Watch(const Napi::CallbackInfo& info);

 private:
  static constexpr uint32_t kMostThreads = 64;
  static constexpr uint32_t kSlabSlots = 2048;
  static constexpr uint32_t kMostSlabs = 256;
  static constexpr uint32_t kMostListeners = 256;

  struct ListenerSlot {
    std::unique_ptr<RelayListener> native;
    Napi::Reference<Napi::ArrayBuffer> stats;
    Napi::FunctionReference on_undecided;
    Napi::FunctionReference on_records;
    Napi::Reference<Napi::Uint8Array> first_bytes;
  };

  Napi::Value Status(int status) const { return Napi::Number::New(env_, status); }
  Napi::Value Pair(int first, const Napi::Value& second) const;
  bool IsRelay(uint32_t id, uint32_t thread) const {
    return id / kSlabSlots < slab_count_ && thread < kMostThreads;
  }
  static RelayLimits Limits(const Napi::Value& value);
  static AdmissionLimits Most(const Napi::Value& value);
  std::unique_ptr<Relay> NewRelay(uint32_t id, RelayLimits limits) const;
  int Give(std::unique_ptr<Relay> relay, uint32_t index);
  int StartThread(uint32_t index);
  void StopThreads();
  static void Inspect(const Napi::CallbackInfo& info, Inspection* inspection);
  static void ExpectHeaders(const Napi::CallbackInfo& info, ExpectedHeaders* headers);
  static SuppliedFrom Sockets(int net);
  static Route::Ref RouteOf(const Napi::CallbackInfo& info, size_t index);
  Napi::Value Begin(std::unique_ptr<RelayListener> listener, const Napi::Function& on_undecided);
  uint32_t FreeListener() const;
  RelayListener* Listener(const Napi::CallbackInfo& info, size_t index) const;

  static void Notify(void* closed);
  static void OnNews(napi_env env, napi_value callback, void* self, void*);
  void Drain(napi_value callback);
  void DrainClosed(napi_value callback);
  void DrainNews(RelayThread* thread);
  void DrainRecords(Records* records);
  void Report(napi_value callback, uint32_t count);

  const Napi::Env env_;
  KernelAnswer* const answer_;
  FirstBytes* const first_;
  LoopGlue* const loop_;
  RecentDials* const dials_;
  AliasTables* const aliases_;
  napi_threadsafe_function on_news_ = nullptr;
  Napi::FunctionReference on_gone_;
  uint32_t* batch_ = nullptr;
  // Of the relays of the batch that have gone other ways.
  std::vector<std::pair<uint32_t, std::vector<HopFailure>>> failures_;
  Napi::Reference<Napi::ArrayBuffer> batch_buffer_;
  double* record_numbers_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> record_buffer_;
  RelaySlot* slabs_[kMostSlabs] = {};
  Napi::Reference<Napi::ArrayBuffer> slab_buffers_[kMostSlabs];
  uint32_t slab_count_ = 0;
  ListenerSlot listeners_[kMostListeners];
  UndecidedConnections undecided_;
  std::unique_ptr<RelayThread> threads_[kMostThreads];
};

// Adds relayStart and the other functions of relays and of servers that relay to the exports.
void init_relay(Napi::Env env, Napi::Object exports, const RelayGlue::Shared& shared);

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_RELAY_GLUE_H_
