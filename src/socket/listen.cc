#include "socket/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "namespace/inside.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

int open_at(const Endpoint& address, const ListenOptions& options, OwnedFd* opened,
            DialStep* failed) {
  const int domain = address.family == 4 ? AF_INET : AF_INET6;
  *failed = kSocket;
  int status = open_socket_at(options.where, domain, SOCK_STREAM | SOCK_NONBLOCK, 0, opened);
  if (status != 0) return status;
  const int fd = opened->get();
  const int on = 1;
  const int ipv6_only = options.ipv6_only ? 1 : 0;
  *failed = kReuseAddress;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) return -errno;
  if (options.reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return -errno;
  }
  if (domain == AF_INET6) setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &ipv6_only, sizeof(ipv6_only));
  // Before listen(2): a TPROXY rule must not find a listener that it cannot use.
  *failed = kTransparent;
  status = options.transparent ? set_transparent(fd, true) : 0;
  if (status != 0) return status;
  if (options.backlog >= 0) set_urgent_inline(fd, true);
  *failed = kBind;
  sockaddr_storage name;
  const socklen_t length = endpoint_to_sockaddr(address, false, &name);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), length) != 0) return -errno;
  return options.backlog < 0 || listen(fd, options.backlog) == 0 ? 0 : -errno;
}

}  // namespace

int open_listener(const Endpoint* address, uint16_t port, const ListenOptions& options,
                  OwnedFd* opened, DialStep* failed) {
  if (address != nullptr) return open_at(*address, options, opened, failed);
  Endpoint any = {};
  endpoint_parse("::", port, &any);
  const int status = open_at(any, options, opened, failed);
  if (status != -EAFNOSUPPORT && status != -EADDRNOTAVAIL) return status;
  endpoint_parse("0.0.0.0", port, &any);
  return open_at(any, options, opened, failed);
}

int adopt_listener(int fd, const ListenOptions& options, OwnedFd* opened, DialStep* failed) {
  *failed = kNoStep;
  SocketKind kind = {};
  int status = socket_kind(fd, &kind);
  if (status != 0) return status;
  if ((kind.domain != AF_INET && kind.domain != AF_INET6) || kind.type != SOCK_STREAM) {
    return -EINVAL;
  }
  *failed = kTransparent;
  status = options.transparent ? set_transparent(fd, true) : 0;
  if (status != 0) return status;
  set_urgent_inline(fd, true);
  *failed = kBind;
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return -errno;
  if (listen(fd, options.backlog) != 0) return -errno;
  opened->reset(fd);
  return 0;
}

void refuse_handshakes(int fd, bool on) {
  if (!on) {
    const int ignored = 0;
    setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof(ignored));
    return;
  }
  // The filter of a TCP socket sees a segment from its header on. Byte 13: the flags.
  constexpr uint32_t kSyn = 0x02;
  constexpr uint32_t kAck = 0x10;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSyn | kAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

}  // namespace original_dst
