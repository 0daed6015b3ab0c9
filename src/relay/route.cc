#include "relay/route.h"

#include <sys/random.h>

namespace original_dst {

int Onward::dial(OwnedFd* upstream, DialStep* failed) {
  dial_.destination = route_->hops[hop_].at;
  dial_.options.family = dial_.destination.family;
  return start_dial(dial_, upstream, failed);
}

bool Onward::has_next(DialStep step, int error) {
  failures.push_back({hop_, step, error});
  step_ = Step::kDone;
  left_ = 0;
  header_size_ = 0;
  over_ = hop_ + 1 == route_->hops.size();
  if (!over_) hop_++;
  return !over_;
}

void Onward::connected() {
  if (route_->protocol == ProxyProtocol::kNone) return send_header();
  handshake_.begin(route_->protocol, !route_->password.empty());
  talking_ = true;
  send(handshake_.message() == Handshake::kGreeting ? route_->greeting
                                                    : route_->requests[route_->hops[hop_].request]);
}

void Onward::send(const Route::Bytes& message) {
  bytes_ = message.data();
  left_ = message.size();
  step_ = Step::kSend;
}

void Onward::send_header() {
  talking_ = false;
  step_ = Step::kDone;
  if (route_->header == 0) return;
  uint8_t id[kUniqueIdSize];
  HeaderContent content;
  content.client = client_;
  content.destination = route_->destination;
  content.authority = reinterpret_cast<const char*>(route_->authority.data());
  content.authority_length = route_->authority.size();
  // It blocks only until the machine has once gathered entropy; 16 bytes come whole.
  if (getrandom(id, sizeof(id), 0) == sizeof(id)) content.unique_id = id;
  header_size_ = write_proxy_header(route_->header, content, header_);
  bytes_ = header_;
  left_ = header_size_;
  step_ = Step::kSend;
}

void Onward::sent(size_t count) {
  bytes_ += count;
  left_ -= count;
  if (left_ == 0) step_ = talking_ ? Step::kListen : Step::kDone;
}

Handshake::Heard Onward::take(const uint8_t* bytes, size_t size, size_t* taken) {
  const Handshake::Heard heard = handshake_.take(bytes, size, taken);
  if (heard == Handshake::Heard::kAsk) {
    send(handshake_.message() == Handshake::kPassword
             ? route_->password
             : route_->requests[route_->hops[hop_].request]);
  } else if (heard == Handshake::Heard::kConnected) {
    send_header();
  }
  return heard;
}

}  // namespace original_dst
