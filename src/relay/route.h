// Another way to an upstream than one connect(2): by turns, by way of another proxy, or with a
// PROXY protocol header ahead.
#ifndef ORIGINAL_DST_RELAY_ROUTE_H_
#define ORIGINAL_DST_RELAY_ROUTE_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "relay/handshake.h"
#include "socket/dial.h"
#include "socket/endpoint.h"
#include "socket/proxy_header.h"

namespace original_dst {

// What was decided, the same for every connection that goes this way. Once it is shared nobody
// changes it. Counted by reference, on any thread.
struct Route {
  using Bytes = std::vector<uint8_t>;
  struct Hop {
    Endpoint at;
    uint16_t request;     // which of the requests the proxy there is sent
    uint32_t timeout_ms;  // of its connect(2), if that is shorter than the listener's; 0: no
  };

  // One of those who refer to it.
  class Ref {
   public:
    Ref() = default;
    explicit Ref(Route* route) : route_(route) { join(); }
    Ref(const Ref& other) : route_(other.route_) { join(); }
    Ref(Ref&& other) noexcept : route_(other.route_) { other.route_ = nullptr; }
    Ref& operator=(Ref other) noexcept {
      Route* const route = route_;
      route_ = other.route_;
      other.route_ = route;
      return *this;
    }
    ~Ref() { leave(); }

    explicit operator bool() const { return route_ != nullptr; }
    const Route* operator->() const { return route_; }

   private:
    void join() const {
      if (route_ != nullptr) __atomic_add_fetch(&route_->users, 1, __ATOMIC_RELAXED);
    }
    void leave() const {
      if (route_ == nullptr) return;
      if (__atomic_sub_fetch(&route_->users, 1, __ATOMIC_ACQ_REL) == 0) delete route_;
    }

    Route* route_ = nullptr;
  };

  std::vector<Hop> hops;  // in order, until one has connected; at least one
  ProxyProtocol protocol = ProxyProtocol::kNone;
  Bytes greeting;
  Bytes password;  // empty: none is offered
  std::vector<Bytes> requests;
  uint8_t header = 0;    // version of the PROXY protocol; 0: none
  Endpoint destination;  // where the client has dialled, for that header
  Bytes authority;       // likewise
  uint32_t users = 0;
};

// How the way by one hop has failed. lib/relay/engine.ts knows the layout.
struct HopFailure {
  uint32_t hop;
  uint32_t step;  // DialStep
  int32_t error;  // errno; of kHandshake: HandshakeFailure, and from the ninth bit on its status
};
static_assert(sizeof(HopFailure) == 12, "lib/relay/engine.ts knows this layout");

// How far one connection has come on such a way.
class Onward {
 public:
  // `dial`: how, from where, but not where to. `client`: for the header.
  Onward(Route::Ref route, const Dial& dial, const Endpoint& client)
      : route_(static_cast<Route::Ref&&>(route)), dial_(dial), client_(client) {}

  enum class Step : uint8_t {
    kSend,    // left() bytes at bytes()
    kListen,  // to the proxy
    kDone,    // the rest is the relay's
  };

  // Have all hops failed?
  bool is_over() const { return over_; }
  uint32_t timeout_ms() const { return route_->hops[hop_].timeout_ms; }
  // start_dial() to the hop whose turn it is.
  int dial(OwnedFd* upstream, DialStep* failed);
  const Endpoint& destination() const { return dial_.destination; }
  // The hop has failed. False when it was the last.
  bool has_next(DialStep step, int error);

  // From connect(2) on.
  void connected();
  Step step() const { return step_; }
  const uint8_t* bytes() const { return bytes_; }
  size_t left() const { return left_; }
  // Are these the PROXY protocol's header?
  bool is_header() const { return header_size_ > 0; }
  void sent(size_t count);
  // As Handshake::take().
  Handshake::Heard take(const uint8_t* bytes, size_t size, size_t* taken);
  int failure() const { return handshake_.failure() | handshake_.status() << 8; }

  // Of all that was tried; the last one has ended it.
  std::vector<HopFailure> failures;

 private:
  void send(const Route::Bytes& message);
  void send_header();

  const Route::Ref route_;
  Dial dial_;
  const Endpoint client_;
  uint32_t hop_ = 0;
  Step step_ = Step::kDone;
  bool over_ = false;
  bool talking_ = false;
  Handshake handshake_;
  const uint8_t* bytes_ = nullptr;
  size_t left_ = 0;
  size_t header_size_ = 0;
  uint8_t header_[kMostWrittenHeader];
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_ROUTE_H_
