#include "host/program_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <charconv>

#include "host/file_lock.h"

namespace original_dst {

namespace {

int open_directory(const char* path, OwnedFd* opened) {
  opened->reset(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return opened->valid() ? 0 : -errno;
}

struct flock range_of(short type, uint64_t from, uint64_t count) {
  struct flock range = {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(from);
  range.l_len = static_cast<off_t>(count);
  return range;
}

}  // namespace

int ProgramLocks::open(uint32_t first_process) {
  if (fd_.valid()) return 0;
  char path[32] = "/proc/";
  char* const digits = path + strlen(path);
  char* const end = std::to_chars(digits, path + sizeof(path) - 4, first_process).ptr;
  memcpy(end, "/fd", 4);
  return open_directory(path, &fd_) == 0 ? 0 : open_directory("/proc/self/fd", &fd_);
}

int ProgramLocks::hold(uint64_t byte) { return lock(F_RDLCK, byte); }

int ProgramLocks::release(uint64_t byte) { return lock(F_UNLCK, byte); }

int ProgramLocks::lock(short type, uint64_t byte) const {
  struct flock range = range_of(type, byte, 1);
  return fcntl(fd_.get(), F_OFD_SETLK, &range) == 0 ? 0 : -errno;
}

// Byte locks will not do: an exclusive one needs a file that is open for writing.
int ProgramLocks::exclude() { return lock_file(fd_.get()); }

void ProgramLocks::include() { flock(fd_.get(), LOCK_UN); }

int ProgramLocks::find(uint64_t from, uint64_t count, uint64_t* byte) const {
  struct flock range = range_of(F_WRLCK, from, count);
  if (fcntl(fd_.get(), F_OFD_GETLK, &range) != 0) return -errno;
  if (range.l_type == F_UNLCK) return 0;
  *byte = static_cast<uint64_t>(range.l_start);
  return 1;
}

}  // namespace original_dst
