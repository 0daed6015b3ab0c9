// The socket of an upstream connection: everything that must be set before connect(2).
#ifndef ORIGINAL_DST_SOCKET_DIAL_H_
#define ORIGINAL_DST_SOCKET_DIAL_H_

#include <stdint.h>

#include "namespace/socket_supply.h"
#include "socket/endpoint.h"
#include "socket/owned_fd.h"

namespace original_dst {

struct DialOptions {
  uint16_t family;  // 4 or 6: the destination's
  Endpoint source;  // family 0: the kernel chooses; port 0: connect(2) chooses the port
  bool transparent;
  bool freebind;
  bool marked;
  uint32_t mark;
  const char* interface;  // nullptr: any
  SuppliedFrom sockets;   // of which network namespace
};

// What a dial can fail at; lib/dial/dial-error.ts has the names.
enum DialStep : uint8_t {
  kNoStep = 0,
  kSocket = 1,
  kBindToDevice = 2,
  kMark = 3,
  kTransparent = 4,
  kFreebind = 5,
  kBindAddressNoPort = 6,
  kReuseAddress = 7,
  kBind = 8,
  kConnect = 9,
  // What is said to another proxy:
  kTalk = 10,       // send(2), recv(2)
  kHandshake = 11,  // no errno: HandshakeFailure
};

// socket(2), the options, bind(2) to the source. Returns 0, or -errno and the step that failed.
int open_dial_socket(const DialOptions& options, OwnedFd* opened, DialStep* failed);

struct Dial {
  Endpoint destination;
  DialOptions options;
  bool port_fallback;  // when the source's port is in use towards this destination: another one
};

// The same, and connect(2), which goes on by itself, and whose handshake is acknowledged by the
// first bytes that are sent: whoever has none calls set_quick_ack(). Returns 0, or -errno and the
// step that failed.
int start_dial(const Dial& dial, OwnedFd* opened, DialStep* failed);

// dup3(2): puts the socket in the place of `fd`, which keeps its number. Returns 0 or -errno.
int replace_fd(const OwnedFd& socket, int fd);

// fcntl(2) F_DUPFD_CLOEXEC: another descriptor of the same socket. Returns 0 or -errno.
int duplicate_fd(int fd, OwnedFd* duplicate);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_DIAL_H_
