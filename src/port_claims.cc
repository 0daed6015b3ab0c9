#include "port_claims.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

namespace original_dst {

int PortClaims::lock(int command, short type, uint32_t program, uint16_t port, short* found) {
  if (!fd_.valid()) {
    struct stat pid_namespace;
    if (stat("/proc/self/ns/pid", &pid_namespace) != 0) return -errno;
    OwnedFd opened(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!opened.valid()) return -errno;
    pid_namespace_ = pid_namespace.st_ino;
    fd_ = static_cast<OwnedFd&&>(opened);
  }
  // 24 + 22 + 16 bits: namespace numbers count up from 0xf0000000, and a pid is below 2^22.
  struct flock range = {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>((pid_namespace_ & 0xffffff) << 38 |
                                     static_cast<uint64_t>(program & 0x3fffff) << 16 | port);
  range.l_len = 1;
  if (fcntl(fd_.get(), command, &range) != 0) return -errno;
  if (found != nullptr) *found = range.l_type;
  return 0;
}

int PortClaims::claim(uint32_t program, uint16_t port) {
  return lock(F_OFD_SETLK, F_RDLCK, program, port, nullptr);
}

int PortClaims::release(uint32_t program, uint16_t port) {
  return lock(F_OFD_SETLK, F_UNLCK, program, port, nullptr);
}

int PortClaims::claimed_elsewhere(uint32_t program, uint16_t port) {
  short found = F_UNLCK;
  const int status = lock(F_OFD_GETLK, F_WRLCK, program, port, &found);
  return status != 0 ? status : found != F_UNLCK;
}

}  // namespace original_dst
