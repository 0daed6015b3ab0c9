#include "socket/loopback.h"

#include <errno.h>

#include "socket/endpoint.h"

namespace original_dst {

LoopbackSocket::LoopbackSocket(int family, int type) {
  Endpoint loopback = {};
  endpoint_parse(family == 4 ? "127.0.0.1" : "::1", 0, &loopback);
  length = endpoint_to_sockaddr(loopback, false, &address);
  fd.reset(socket(address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const bool bound = fd.valid() && bind(fd.get(), name(), length) == 0 &&
                     getsockname(fd.get(), name(), &length) == 0;
  status = bound ? 0 : -errno;
}

}  // namespace original_dst
