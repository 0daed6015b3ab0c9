// Which ports do this program's other threads and processes intercept on?
#ifndef ORIGINAL_DST_HOST_PORT_CLAIMS_H_
#define ORIGINAL_DST_HOST_PORT_CLAIMS_H_

#include <stdint.h>

#include "socket/owned_fd.h"

namespace original_dst {

// One thread's claims. A claim is a shared lock (fcntl(2), F_OFD_SETLK) on one byte of the network
// namespace's own file, /proc/self/ns/net, at an offset made of the pid namespace, the program's
// first process and the port.
//
// That gives what nothing else does together: any number of holders, an answer that is never late,
// no part for the cluster's primary, which may never have heard of this package, and release by the
// kernel when a holder dies, however it dies. What failed: messages between threads arrive after
// the connection that they are about; a table in the addon ends at the process; the kernel's list
// of listening sockets does not tell an intercepting one from the program's other servers.
class PortClaims {
 public:
  // Returns 0 or -errno.
  int claim(uint32_t program, uint16_t port);
  int release(uint32_t program, uint16_t port);
  // Does anybody but this object claim the port? 1, 0 or -errno.
  int claimed_elsewhere(uint32_t program, uint16_t port);

 private:
  int lock(int command, short type, uint32_t program, uint16_t port, short* found);

  OwnedFd fd_;
  uint64_t pid_namespace_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_PORT_CLAIMS_H_
