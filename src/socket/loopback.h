// Sockets for asking the kernel something by traffic of our own.
#ifndef ORIGINAL_DST_SOCKET_LOOPBACK_H_
#define ORIGINAL_DST_SOCKET_LOOPBACK_H_

#include <sys/socket.h>

#include "socket/owned_fd.h"

namespace original_dst {

// A socket bound to a port of the loopback address.
struct LoopbackSocket {
  OwnedFd fd;
  sockaddr_storage address;
  socklen_t length;
  int status;  // 0 or -errno

  // socket(2), bind(2), getsockname(2), for family 4 or 6
  LoopbackSocket(int family, int type);

  sockaddr* name() { return reinterpret_cast<sockaddr*>(&address); }
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_LOOPBACK_H_
