// The connections that a program has dialled lately, for all of its threads and processes to see.
#ifndef ORIGINAL_DST_HOST_RECENT_DIALS_H_
#define ORIGINAL_DST_HOST_RECENT_DIALS_H_

#include <stddef.h>
#include <stdint.h>

#include "host/program_locks.h"
#include "socket/endpoint.h"

namespace original_dst {

// Which of the program's listeners a connection has come through: their ports, sixteen bits each,
// the last one lowest. 0: not known, the program dialled for reasons of its own.
using Path = uint64_t;
// 3 × 16 bits are a whole number in JavaScript.
constexpr int kLongestPath = 3;

struct RecentDial {
  uint64_t cookie;  // SO_COOKIE
  Path path;
  bool transparent;  // its address may be another host's
};

// A table in shared memory: fixed in size, without locks, the newest in the place of older ones. It
// holds what may be so: an entry stays behind when its process is killed or the descriptor was
// somebody else's to close. The kernel knows whether that very socket is still there (its cookie).
// An entry is needed for no longer than an accept queue is, so losing an old one does no harm.
//
// Each thread maps the memory for itself, and finds it by a note among the program's locks: process
// and descriptor of any thread that has it. Nobody else can reach it: the memory has no name, and
// /proc/PID/fd lets in those who could trace the process.
class RecentDials {
 public:
  RecentDials() = default;
  RecentDials(const RecentDials&) = delete;
  RecentDials& operator=(const RecentDials&) = delete;
  ~RecentDials();

  // Takes part in the program's table. Once; other threads may use the object already. Returns 0
  // or -errno, and then nothing is noted and nothing found.
  int join(ProgramLocks* locks);

  // Notes a socket after connect(2), at a cost of two system calls. Returns what forget() takes.
  uint64_t note(int fd, const Endpoint& destination, Path path, bool transparent);
  // Saves whoever has the port next from being looked into.
  void forget(uint64_t key);
  bool find(const Endpoint& local, const Endpoint& destination, RecentDial* found) const;

 private:
  struct Dial;
  struct Set;
  struct Table;

  int adopt(const ProgramLocks& locks);
  int found();
  int map(OwnedFd memory);
  Set* set_of(uint64_t key) const;

  Table* table_ = nullptr;
  OwnedFd memory_;
};

// What is to be noted about one dial, and where it was.
struct DialNote {
  RecentDials* dials = nullptr;  // null: nowhere
  Path path = 0;
  bool transparent = false;
  uint64_t key = 0;

  void write(int fd, const Endpoint& destination) {
    if (dials != nullptr) key = dials->note(fd, destination, path, transparent);
  }
  void forget() const {
    if (dials != nullptr) dials->forget(key);
  }
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_RECENT_DIALS_H_
