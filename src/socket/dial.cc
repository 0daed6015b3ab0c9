#include "socket/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "socket/socket_options.h"

namespace original_dst {

int open_dial_socket(const DialOptions& options, OwnedFd* opened, DialStep* failed) {
  const auto fail = [failed](DialStep step, int status) {
    *failed = step;
    return status;
  };
  const int domain = options.family == 4 ? AF_INET : AF_INET6;
  OwnedFd owned;
  int status = options.sockets.take(domain, &owned);
  if (status != 0) return fail(kSocket, status);
  const int fd = owned.get();

  if (options.interface != nullptr &&
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options.interface,
                 static_cast<socklen_t>(strlen(options.interface))) != 0) {
    return fail(kBindToDevice, -errno);
  }
  if (options.marked) status = set_mark(fd, options.mark);
  if (status != 0) return fail(kMark, status);
  if (options.transparent) status = set_transparent(fd, true);
  if (status != 0) return fail(kTransparent, status);
  if (options.freebind) status = set_freebind(fd, true);
  if (status != 0) return fail(kFreebind, status);

  if (options.source.family != 0) {
    if (options.source.port == 0) {
      // Otherwise bind(2) takes a port for this connection alone, whatever its destination, and a
      // proxy runs out of ports at 28,232 connections instead of that many to each destination.
      status = set_bind_address_no_port(fd, true);
      if (status != 0) return fail(kBindAddressNoPort, status);
    } else {
      // One client port can have connections to many destinations, and each needs the same source
      // here. With this only the complete tuple must be unique, which connect(2) sees to.
      const int on = 1;
      if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
        return fail(kReuseAddress, -errno);
      }
    }
    sockaddr_storage address;
    const socklen_t length = endpoint_to_sockaddr(options.source, false, &address);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return fail(kBind, -errno);
  }
  *opened = static_cast<OwnedFd&&>(owned);
  return 0;
}

int start_dial(const Dial& dial, OwnedFd* opened, DialStep* failed) {
  sockaddr_storage address;
  const socklen_t length = endpoint_to_sockaddr(dial.destination, false, &address);
  DialOptions options = dial.options;
  for (;;) {
    int status = open_dial_socket(options, opened, failed);
    if (status == 0) {
      // Of the handshake: a packet less for the many who have something to say.
      set_quick_ack(opened->get(), false);
      if (connect(opened->get(), reinterpret_cast<sockaddr*>(&address), length) == 0) return 0;
      if (errno == EINPROGRESS) return 0;
      status = -errno;
      *failed = kConnect;
    }
    // bind(2) passes when another socket has the port for another destination (SO_REUSEADDR);
    // connect(2) is where a taken tuple shows.
    const bool taken = (*failed == kBind && status == -EADDRINUSE) ||
                       (*failed == kConnect && status == -EADDRNOTAVAIL);
    if (!dial.port_fallback || !taken || options.source.port == 0) return status;
    options.source.port = 0;
  }
}

int replace_fd(const OwnedFd& socket, int fd) {
  return dup3(socket.get(), fd, O_CLOEXEC) < 0 ? -errno : 0;
}

int duplicate_fd(int fd, OwnedFd* duplicate) {
  duplicate->reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return duplicate->valid() ? 0 : -errno;
}

}  // namespace original_dst
