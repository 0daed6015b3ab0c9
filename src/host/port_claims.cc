#include "host/port_claims.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <charconv>
#include <system_error>

namespace original_dst {

namespace {

// 32 + 16 bits, the lowest of a lock's number.
uint64_t byte_of(uint32_t network_namespace, uint16_t port) {
  return static_cast<uint64_t>(network_namespace) << 16 | port;
}

}  // namespace

int PortClaims::claim(uint32_t network_namespace, uint16_t port) {
  return locks_->hold(byte_of(network_namespace, port));
}

int PortClaims::release(uint32_t network_namespace, uint16_t port) {
  return locks_->release(byte_of(network_namespace, port));
}

int PortClaims::claimed_elsewhere(uint32_t network_namespace, uint16_t port) const {
  uint64_t found = 0;
  return locks_->find(byte_of(network_namespace, port), 1, &found);
}

// By readlink(2), because the stat(2) that a binary asks for today is not there before glibc 2.33.
// Not /proc/self, which is the process's first thread: setns(2) moves one thread alone.
int own_network_namespace(uint32_t* number) {
  char text[64];
  const ssize_t length = readlink("/proc/thread-self/ns/net", text, sizeof(text));
  if (length < 0) return -errno;
  const char* end = text + length;
  const void* bracket = memchr(text, '[', static_cast<size_t>(length));
  if (bracket == nullptr) return -EBADMSG;
  const std::from_chars_result parsed =
      std::from_chars(static_cast<const char*>(bracket) + 1, end, *number);
  return parsed.ec == std::errc() ? 0 : -EBADMSG;
}

}  // namespace original_dst
