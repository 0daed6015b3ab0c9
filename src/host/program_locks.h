// What the threads and cluster workers of one program can tell each other, and nobody else can.
#ifndef ORIGINAL_DST_HOST_PROGRAM_LOCKS_H_
#define ORIGINAL_DST_HOST_PROGRAM_LOCKS_H_

#include <stdint.h>

#include "socket/owned_fd.h"

namespace original_dst {

// One thread's shared locks (fcntl(2), F_OFD_SETLK) on single bytes of /proc/PID/fd, the directory
// of the program's first process. What a byte means is its number: a bulletin board of 2^63 notes.
//
// Any number may hold a note, an answer is never late, the cluster's primary need not know of this
// package, and the kernel takes the notes of a holder down when it dies, however it dies. Nobody
// else can write: the directory is its owner's alone (mode 0500; to a process without a core dump,
// root's and its own), so whoever can open it could as well trace the program. What failed:
// messages between threads arrive after the connection that they are about; a table in the addon
// ends at the process; and on /proc/self/ns/net, which all of the namespace can open, a lock of any
// local user's counted too.
class ProgramLocks {
 public:
  // `first_process` stands for the program: the cluster's primary, or the process itself. Where it
  // belongs to another user, or runs no more, the process stands for itself. Returns 0 or -errno.
  int open(uint32_t first_process);
  // Returns 0 or -errno.
  int hold(uint64_t byte);
  int release(uint64_t byte);
  // The first of `count` bytes that anybody but this object holds: 1, 0 for none, or -errno.
  int find(uint64_t from, uint64_t count, uint64_t* byte) const;
  // flock(2): one holder at a time, for a moment. Returns 0, or -EWOULDBLOCK while another has it.
  int exclude();
  void include();

 private:
  int lock(short type, uint64_t byte) const;

  OwnedFd fd_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_PROGRAM_LOCKS_H_
