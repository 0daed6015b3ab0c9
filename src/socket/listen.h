// A listening socket for a thread that accepts connections itself.
#ifndef ORIGINAL_DST_SOCKET_LISTEN_H_
#define ORIGINAL_DST_SOCKET_LISTEN_H_

#include <stdint.h>

#include "socket/dial.h"
#include "socket/endpoint.h"
#include "socket/owned_fd.h"

namespace original_dst {

struct ListenOptions {
  int backlog;  // negative: only bound, for a server of Node's
  bool transparent;
  bool ipv6_only;
  bool reuse_port;
  int where;  // -1, or a descriptor of the network namespace to listen in
};

// socket(2), the options, bind(2), listen(2), as net.Server does them: SO_REUSEADDR, and one socket
// for both families on `::`; and with SO_OOBINLINE, for the flows of a relay. `address` null: all
// of both families, or of IPv4 where there is no IPv6. Returns 0, or -errno and the step that
// failed, kBind for listen(2) too.
int open_listener(const Endpoint* address, uint16_t port, const ListenOptions& options,
                  OwnedFd* opened, DialStep* failed);

// The same for a bound TCP socket, which becomes ours if all goes well.
int adopt_listener(int fd, const ListenOptions& options, OwnedFd* opened, DialStep* failed);

// Drops SYN at a listening socket, or does not any more (SO_ATTACH_FILTER): what was begun is
// brought to its end, and what begins is for another socket of the port, once this one is closed.
void refuse_handshakes(int fd, bool on);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_LISTEN_H_
