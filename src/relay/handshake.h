// What a proxy answers until it has connected: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC
// 9110), read byte by byte. It keeps none of the bytes, so that an answer costs nothing to wait
// for.
#ifndef ORIGINAL_DST_RELAY_HANDSHAKE_H_
#define ORIGINAL_DST_RELAY_HANDSHAKE_H_

#include <stddef.h>
#include <stdint.h>

namespace original_dst {

enum class ProxyProtocol : uint8_t { kNone = 0, kSocks5 = 1, kHttp = 2 };

// Why a proxy has not connected; lib/dial/handshake-error.ts has the words.
enum HandshakeFailure : uint8_t {
  kNoFailure = 0,
  kRefused = 1,         // with its status: SOCKS5's reply code, or HTTP's status code
  kNotAuthorized = 2,   // likewise
  kOtherProtocol = 3,   // the answer is of none of these protocols
  kNotOffered = 4,      // a method of authentication that it was not offered
  kUnknownAddress = 5,  // a kind of address that SOCKS5 does not have
  kTooMuch = 6,         // more than was asked for
  kTooLong = 7,
  kCutOff = 8,
  kTooLate = 9,
};

class Handshake {
 public:
  // As much as Node takes for the head of an HTTP message.
  static constexpr size_t kMost = size_t{16} * 1024;

  // What the proxy is to be sent.
  enum Message : uint8_t { kGreeting = 0, kPassword = 1, kRequest = 2 };

  enum class Heard : uint8_t {
    kMore,       // the answer is not whole
    kAsk,        // it is: send message()
    kConnected,  // it has connected; what is behind the answer is the destination's
    kFailed,     // failure() and status() say why
  };

  // `password`: the proxy was offered one. message() is what is to be sent first.
  void begin(ProxyProtocol protocol, bool password);
  Message message() const { return message_; }
  // What has come next. `*taken`: how many of the bytes are part of the answers.
  Heard take(const uint8_t* bytes, size_t size, size_t* taken);
  HandshakeFailure failure() const { return failure_; }
  uint16_t status() const { return status_; }

 private:
  enum State : uint8_t {
    // SOCKS5
    kVersionOfMethod,
    kMethod,
    kVersionOfPassword,
    kPasswordStatus,
    kVersionOfReply,
    kReply,
    kReserved,
    kAddressKind,
    kNameLength,
    kBound,
    // HTTP
    kStatusLine,
    kReason,
    kFields,
  };

  Heard take_one(uint8_t byte);
  Heard take_method(uint8_t method);
  Heard take_bound(uint8_t kind);
  Heard take_status_line(uint8_t byte);
  Heard take_line(uint8_t byte);
  Heard head_is_whole();
  Heard next(State state);
  Heard ask(Message message, State state);
  Heard expect(bool holds, State state);
  Heard fail(HandshakeFailure failure, uint16_t status = 0);

  ProxyProtocol protocol_ = ProxyProtocol::kNone;
  Message message_ = kGreeting;
  State state_ = kVersionOfMethod;
  HandshakeFailure failure_ = kNoFailure;
  bool password_ = false;
  uint8_t place_ = 0;    // in the status line
  uint8_t endings_ = 0;  // how much of "\r\n\r\n" has come
  uint16_t left_ = 0;    // of the address that the proxy is bound to
  uint16_t status_ = 0;
  uint32_t taken_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_HANDSHAKE_H_
