// sd_notify(3): a datagram to the service manager that has started this process.
#ifndef ORIGINAL_DST_HOST_SERVICE_NOTIFY_H_
#define ORIGINAL_DST_HOST_SERVICE_NOTIFY_H_

#include <stddef.h>

namespace original_dst {

// sendto(2) from a socket of its own. `name`: as NOTIFY_SOCKET has it, a path or, after '@', an
// abstract name. Returns 0 or -errno.
int notify_service(const char* name, size_t length, const char* text, size_t size);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_SERVICE_NOTIFY_H_
