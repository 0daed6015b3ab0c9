// The socket of an upstream connection: everything that must be set before connect(2).
#ifndef ORIGINAL_DST_DIAL_H_
#define ORIGINAL_DST_DIAL_H_

#include <stdint.h>

#include "endpoint.h"
#include "owned_fd.h"

namespace original_dst {

struct DialOptions {
  uint16_t family;  // 4 or 6: the destination's
  Endpoint source;  // family 0: the kernel chooses; port 0: connect(2) chooses the port
  bool transparent;
  bool freebind;
  bool marked;
  uint32_t mark;
  const char* interface;  // nullptr: any
};

// socket(2), the options, bind(2) to the source. Returns 0, or -errno with `*failed` naming the
// option, or the call that is not setsockopt(2).
int open_dial_socket(const DialOptions& options, OwnedFd* opened, const char** failed);

// dup3(2): puts the socket in the place of `fd`, which keeps its number. Returns 0 or -errno.
int replace_fd(const OwnedFd& socket, int fd);

}  // namespace original_dst

#endif  // ORIGINAL_DST_DIAL_H_
