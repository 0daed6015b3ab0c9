#include "host/port_claims.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <charconv>
#include <system_error>

namespace original_dst {

namespace {

// The number of this process's pid namespace, `pid:[4026531836]`. By readlink(2), because the
// stat(2) that a binary asks for today is not there before glibc 2.33. Returns 0 or -errno.
int read_pid_namespace(uint64_t* number) {
  char text[64];
  const ssize_t length = readlink("/proc/self/ns/pid", text, sizeof(text));
  if (length < 0) return -errno;
  const char* end = text + length;
  const void* bracket = memchr(text, '[', static_cast<size_t>(length));
  if (bracket == nullptr) return -EBADMSG;
  const std::from_chars_result parsed =
      std::from_chars(static_cast<const char*>(bracket) + 1, end, *number);
  return parsed.ec == std::errc() ? 0 : -EBADMSG;
}

}  // namespace

int PortClaims::lock(int command, short type, uint32_t program, uint16_t port, short* found) {
  if (!fd_.valid()) {
    const int status = read_pid_namespace(&pid_namespace_);
    if (status != 0) return status;
    OwnedFd opened(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!opened.valid()) return -errno;
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
