#include "host/port_claims.h"

namespace original_dst {

namespace {

// 45 + 16 bits, the lowest of a lock's number. Namespaces are counted from the boot on.
uint64_t byte_of(uint64_t network_namespace, uint16_t port) {
  return (network_namespace & ((uint64_t{1} << 45) - 1)) << 16 | port;
}

}  // namespace

int PortClaims::claim(uint64_t network_namespace, uint16_t port) {
  return locks_->hold(byte_of(network_namespace, port));
}

int PortClaims::release(uint64_t network_namespace, uint16_t port) {
  return locks_->release(byte_of(network_namespace, port));
}

int PortClaims::claimed_elsewhere(uint64_t network_namespace, uint16_t port) const {
  uint64_t found = 0;
  return locks_->find(byte_of(network_namespace, port), 1, &found);
}

}  // namespace original_dst
