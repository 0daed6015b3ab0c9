#include "socket/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "socket/socket_options.h"

namespace original_dst {

namespace {

// More than any kernel allows by default: it takes net.core.somaxconn where that is less.
constexpr int kBacklog = 65535;

int open_at(const Endpoint& address, bool transparent, OwnedFd* opened, DialStep* failed) {
  const int domain = address.family == 4 ? AF_INET : AF_INET6;
  opened->reset(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  *failed = kSocket;
  if (!opened->valid()) return -errno;
  const int fd = opened->get();
  const int on = 1;
  const int off = 0;
  *failed = kReuseAddress;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) return -errno;
  if (domain == AF_INET6) setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  // Before listen(2): a TPROXY rule must not find a listener that it cannot use.
  *failed = kTransparent;
  const int status = transparent ? set_transparent(fd, true) : 0;
  if (status != 0) return status;
  set_urgent_inline(fd, true);
  *failed = kBind;
  sockaddr_storage name;
  const socklen_t length = endpoint_to_sockaddr(address, false, &name);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), length) != 0) return -errno;
  return listen(fd, kBacklog) == 0 ? 0 : -errno;
}

}  // namespace

int open_listener(const Endpoint* address, uint16_t port, bool transparent, OwnedFd* opened,
                  DialStep* failed) {
  if (address != nullptr) return open_at(*address, transparent, opened, failed);
  Endpoint any = {};
  endpoint_parse("::", port, &any);
  const int status = open_at(any, transparent, opened, failed);
  if (status != -EAFNOSUPPORT && status != -EADDRNOTAVAIL) return status;
  endpoint_parse("0.0.0.0", port, &any);
  return open_at(any, transparent, opened, failed);
}

}  // namespace original_dst
