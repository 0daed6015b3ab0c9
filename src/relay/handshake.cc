#include "relay/handshake.h"

namespace original_dst {

namespace {

constexpr uint8_t kSocksVersion = 5;
constexpr uint8_t kPasswordVersion = 1;
constexpr uint8_t kNoAuthentication = 0;
constexpr uint8_t kUsernamePassword = 2;
constexpr uint8_t kNoAcceptableMethod = 0xff;
constexpr uint8_t kIpv4 = 1;
constexpr uint8_t kName = 3;
constexpr uint8_t kIpv6 = 4;
constexpr uint16_t kPortSize = 2;

// "HTTP/1.x NNN", by place: the letter that is to be there, or what kind of one.
constexpr char kStatusLineText[] = "HTTP/1.b cdd";
constexpr uint8_t kStatusLineSize = sizeof(kStatusLineText) - 1;

bool fits(char wanted, uint8_t byte) {
  switch (wanted) {
    case 'b':
      return byte == '0' || byte == '1';
    case 'c':
      return byte >= '1' && byte <= '5';
    case 'd':
      return byte >= '0' && byte <= '9';
    default:
      return byte == static_cast<uint8_t>(wanted);
  }
}

}  // namespace

void Handshake::begin(ProxyProtocol protocol, bool password) {
  *this = Handshake();
  protocol_ = protocol;
  password_ = password;
  if (protocol == ProxyProtocol::kHttp) {
    message_ = kRequest;
    state_ = kStatusLine;
  }
}

Handshake::Heard Handshake::take(const uint8_t* bytes, size_t size, size_t* taken) {
  Heard heard = Heard::kMore;
  size_t at = 0;
  while (at < size && heard == Heard::kMore) {
    heard = taken_++ == kMost ? fail(kTooLong) : take_one(bytes[at++]);
  }
  *taken = at;
  // What has come before the question was put cannot be the answer to it.
  return heard == Heard::kAsk && at < size ? fail(kTooMuch) : heard;
}

Handshake::Heard Handshake::take_one(uint8_t byte) {
  switch (state_) {
    case kVersionOfMethod:
      return expect(byte == kSocksVersion, kMethod);
    case kMethod:
      return take_method(byte);
    case kVersionOfPassword:
      return expect(byte == kPasswordVersion, kPasswordStatus);
    case kPasswordStatus:
      return byte == 0 ? ask(kRequest, kVersionOfReply) : fail(kNotAuthorized, byte);
    case kVersionOfReply:
      return expect(byte == kSocksVersion, kReply);
    case kReply:
      // Some close the connection behind the code.
      return byte == 0 ? next(kReserved) : fail(kRefused, byte);
    case kReserved:
      return next(kAddressKind);
    case kAddressKind:
      return take_bound(byte);
    case kNameLength:
      left_ = static_cast<uint16_t>(byte + kPortSize);
      return next(kBound);
    case kBound:
      return --left_ == 0 ? Heard::kConnected : Heard::kMore;
    case kStatusLine:
      return take_status_line(byte);
    case kReason:
    case kFields:
      return take_line(byte);
  }
  return fail(kOtherProtocol);
}

Handshake::Heard Handshake::take_method(uint8_t method) {
  if (method == kNoAuthentication) return ask(kRequest, kVersionOfReply);
  if (method == kNoAcceptableMethod) return fail(kNotAuthorized, method);
  if (method != kUsernamePassword || !password_) return fail(kNotOffered);
  return ask(kPassword, kVersionOfPassword);
}

Handshake::Heard Handshake::take_bound(uint8_t kind) {
  if (kind == kName) return next(kNameLength);
  if (kind != kIpv4 && kind != kIpv6) return fail(kUnknownAddress);
  left_ = static_cast<uint16_t>((kind == kIpv4 ? 4 : 16) + kPortSize);
  return next(kBound);
}

Handshake::Heard Handshake::take_status_line(uint8_t byte) {
  if (place_ < kStatusLineSize) {
    const char wanted = kStatusLineText[place_];
    // At the first wrong byte: whoever speaks another protocol is not waited for.
    if (!fits(wanted, byte)) return fail(kOtherProtocol);
    place_++;
    if (wanted == 'c' || wanted == 'd') status_ = static_cast<uint16_t>(status_ * 10 + byte - '0');
    return Heard::kMore;
  }
  if (byte == ' ') return next(kReason);
  if (byte != '\r') return fail(kOtherProtocol);
  state_ = kReason;
  return take_line(byte);
}

// The head ends with an empty line. Its body, if it says that it has one, has none.
Handshake::Heard Handshake::take_line(uint8_t byte) {
  const bool after_return = endings_ == 1 || endings_ == 3;
  // A line of its own ends the status line: neither a bare CR nor a bare LF may be in there.
  if (state_ == kReason && after_return != (byte == '\n')) return fail(kOtherProtocol);
  if (byte == '\n' && after_return) {
    endings_++;
    state_ = kFields;
  } else if (byte == '\r') {
    endings_ = endings_ == 2 ? 3 : 1;
  } else {
    endings_ = 0;
  }
  return endings_ == 4 ? head_is_whole() : Heard::kMore;
}

Handshake::Heard Handshake::head_is_whole() {
  if (status_ >= 200 && status_ < 300) return Heard::kConnected;
  // tinyproxy says 401 to a wrong password.
  if (status_ == 401 || status_ == 407) return fail(kNotAuthorized, status_);
  if (status_ >= 200 || status_ == 101) return fail(kRefused, status_);
  // 100 Continue and its like announce another one.
  place_ = 0;
  endings_ = 0;
  status_ = 0;
  return next(kStatusLine);
}

Handshake::Heard Handshake::next(State state) {
  state_ = state;
  return Heard::kMore;
}

Handshake::Heard Handshake::ask(Message message, State state) {
  message_ = message;
  state_ = state;
  return Heard::kAsk;
}

Handshake::Heard Handshake::expect(bool holds, State state) {
  return holds ? next(state) : fail(kOtherProtocol);
}

Handshake::Heard Handshake::fail(HandshakeFailure failure, uint16_t status) {
  failure_ = failure;
  status_ = status;
  return Heard::kFailed;
}

}  // namespace original_dst
