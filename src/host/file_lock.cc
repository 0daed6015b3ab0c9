#include "host/file_lock.h"

#include <errno.h>
#include <sys/file.h>

namespace original_dst {

int lock_file(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno; }

}  // namespace original_dst
