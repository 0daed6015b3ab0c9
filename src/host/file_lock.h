// flock(2): one process at a time.
#ifndef ORIGINAL_DST_HOST_FILE_LOCK_H_
#define ORIGINAL_DST_HOST_FILE_LOCK_H_

namespace original_dst {

// Takes the lock on an open file; closing the file, or the end of the process, gives it back.
// Returns 0, -EWOULDBLOCK while somebody else has it, or another -errno.
int lock_file(int fd);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_FILE_LOCK_H_
