#include "host/service_notify.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "socket/owned_fd.h"

namespace original_dst {

int notify_service(const char* name, size_t length, const char* text, size_t size) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // A path ends with a zero; an abstract name ends where the length says.
  if (length == 0 || length >= sizeof(address.sun_path)) return -EINVAL;
  memcpy(address.sun_path, name, length);
  if (name[0] == '@') address.sun_path[0] = '\0';
  const OwnedFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  const auto room = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  const ssize_t sent =
      sendto(fd.get(), text, size, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), room);
  return sent < 0 ? -errno : 0;
}

}  // namespace original_dst
