// Which ports do this program's other threads and processes intercept on?
#ifndef ORIGINAL_DST_HOST_PORT_CLAIMS_H_
#define ORIGINAL_DST_HOST_PORT_CLAIMS_H_

#include <stdint.h>

#include "host/program_locks.h"

namespace original_dst {

// One thread's claims, as locks that nobody but the program can hold. The kernel's list of
// listening sockets would not do: it does not tell an intercepting one from the program's other
// servers. A port is one of a network namespace, by its number (namespace_number()).
class PortClaims {
 public:
  explicit PortClaims(ProgramLocks* locks) : locks_(locks) {}

  // Returns 0 or -errno.
  int claim(uint64_t network_namespace, uint16_t port);
  int release(uint64_t network_namespace, uint16_t port);
  // Does anybody but this object claim the port? 1, 0 or -errno.
  int claimed_elsewhere(uint64_t network_namespace, uint16_t port) const;

 private:
  ProgramLocks* const locks_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_PORT_CLAIMS_H_
