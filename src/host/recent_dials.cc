#include "host/recent_dials.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "socket/original_dst.h"
#include "socket/socket_diag.h"

namespace original_dst {

namespace {

constexpr size_t kSets = 2048;
constexpr size_t kWays = 8;
constexpr uint64_t kFree = 0;
constexpr uint64_t kBusy = 1;  // somebody is writing
constexpr uint64_t kTransparent = uint64_t{1} << 63;

// The layout is part of the name: programs may hold two versions of this package.
constexpr char kName[] = "original-dst dials 2";
constexpr char kLink[] = "/memfd:original-dst dials 2";
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

// Of a lock's number: notes of who has the table, beside the claims of ports.
constexpr uint64_t kMembers = uint64_t{1} << 62;
constexpr int kFdBits = 31;
constexpr uint64_t kMemberCount = uint64_t{1} << (22 + kFdBits);

uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15U;
  return hash ^ hash >> 29;
}

uint64_t mix(uint64_t hash, const Endpoint& endpoint) {
  uint64_t words[2];
  memcpy(words, endpoint.bytes, sizeof(words));
  hash = mix(hash, static_cast<uint64_t>(endpoint.family) << 16 | endpoint.port);
  return mix(mix(hash, words[0]), words[1]);
}

// Without the interface of a link-local address, which not every party knows.
uint64_t key_of(const Endpoint& local, const Endpoint& destination) {
  const uint64_t hash = mix(mix(0, local), destination);
  return hash > kBusy ? hash : hash + 2;
}

// The text is written to `to`, which has room.
void member_path(uint64_t member, char* to) {
  constexpr char kProc[] = "/proc/";
  memcpy(to, kProc, sizeof(kProc));
  char* at = to + strlen(kProc);
  at = std::to_chars(at, at + 10, member >> kFdBits).ptr;
  memcpy(at, "/fd/", 4);
  at += 4;
  *std::to_chars(at, at + 10, member & ((uint64_t{1} << kFdBits) - 1)).ptr = '\0';
}

// The descriptor may have been closed since, and be anything by now: nothing else is opened.
int open_member(uint64_t member, OwnedFd* opened) {
  char path[40];
  member_path(member, path);
  char link[sizeof(kLink)];
  const ssize_t length = readlink(path, link, sizeof(link));
  if (length < 0) return -errno;
  if (static_cast<size_t>(length) < strlen(kLink) || memcmp(link, kLink, strlen(kLink)) != 0) {
    return -ENOENT;
  }
  opened->reset(open(path, O_RDWR | O_CLOEXEC));
  return opened->valid() ? 0 : -errno;
}

}  // namespace

struct RecentDials::Dial {
  uint64_t cookie;
  uint64_t path;  // and kTransparent
};

// The keys are one line of the processor's cache: most questions are answered by no.
struct RecentDials::Set {
  uint64_t keys[kWays];
  Dial dials[kWays];
};

struct RecentDials::Table {
  Set sets[kSets];
};

RecentDials::~RecentDials() {
  if (table_ != nullptr) munmap(table_, sizeof(Table));
}

int RecentDials::join(ProgramLocks* locks) {
  // One founder at a time. Whoever keeps the lock for longer is being debugged, and not waited for.
  for (int i = 0; i < 200 && locks->exclude() != 0; i++) poll(nullptr, 0, 1);
  int status = adopt(*locks);
  if (status != 0) status = found();
  if (status == 0) {
    const auto process = static_cast<uint64_t>(getpid());
    const uint64_t member = kMembers | process << kFdBits | static_cast<uint64_t>(memory_.get());
    status = locks->hold(member);
  }
  locks->include();
  return status;
}

// Takes the table of any other thread that has one.
int RecentDials::adopt(const ProgramLocks& locks) {
  const uint64_t end = kMembers + kMemberCount;
  uint64_t member = 0;
  for (uint64_t from = kMembers; locks.find(from, end - from, &member) == 1; from = member + 1) {
    OwnedFd memory;
    if (open_member(member & ~kMembers, &memory) == 0 && map(static_cast<OwnedFd&&>(memory)) == 0) {
      return 0;
    }
  }
  return -ENOENT;
}

int RecentDials::found() {
  OwnedFd memory(static_cast<int>(
      syscall(SYS_memfd_create, kName, static_cast<unsigned>(MFD_CLOEXEC | MFD_ALLOW_SEALING))));
  if (!memory.valid()) return -errno;
  if (ftruncate(memory.get(), sizeof(Table)) != 0) return -errno;
  if (fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return -errno;
  return map(static_cast<OwnedFd&&>(memory));
}

int RecentDials::map(OwnedFd memory) {
  // A memory that could shrink could end us by SIGBUS.
  if (fcntl(memory.get(), F_GET_SEALS) != kSeals) return -EINVAL;
  if (lseek(memory.get(), 0, SEEK_END) != static_cast<off_t>(sizeof(Table))) return -EINVAL;
  void* const mapped =
      mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED) return -errno;
  memory_ = static_cast<OwnedFd&&>(memory);
  __atomic_store_n(&table_, static_cast<Table*>(mapped), __ATOMIC_RELEASE);
  return 0;
}

RecentDials::Set* RecentDials::set_of(uint64_t key) const {
  Table* const table = __atomic_load_n(&table_, __ATOMIC_ACQUIRE);
  return table == nullptr ? nullptr : &table->sets[key % kSets];
}

uint64_t RecentDials::note(int fd, const Endpoint& destination, Path path, bool transparent) {
  Endpoint local;
  uint64_t cookie = 0;
  if (__atomic_load_n(&table_, __ATOMIC_ACQUIRE) == nullptr) return kFree;
  if (local_endpoint(fd, &local) != 0 || socket_cookie(fd, &cookie) != 0) return kFree;
  const uint64_t key = key_of(local, destination);
  Set* const set = set_of(key);
  // The same addresses once more, else a free place, else another one each time: cookies count up.
  size_t place = cookie % kWays;
  for (size_t i = 0; i < kWays; i++) {
    const uint64_t held = __atomic_load_n(&set->keys[i], __ATOMIC_RELAXED);
    if (held != key && held != kFree) continue;
    place = i;
    if (held == key) break;
  }
  uint64_t before = __atomic_load_n(&set->keys[place], __ATOMIC_RELAXED);
  // Two at once want the same place: one of the two goes without, which costs a loop another turn.
  if (before == kBusy || !__atomic_compare_exchange_n(&set->keys[place], &before, kBusy, false,
                                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return kFree;
  }
  Dial* const dial = &set->dials[place];
  __atomic_store_n(&dial->cookie, cookie, __ATOMIC_RELAXED);
  __atomic_store_n(&dial->path, path | (transparent ? kTransparent : 0), __ATOMIC_RELAXED);
  __atomic_store_n(&set->keys[place], key, __ATOMIC_RELEASE);
  return key;
}

void RecentDials::forget(uint64_t key) {
  Set* const set = key == kFree ? nullptr : set_of(key);
  for (size_t i = 0; set != nullptr && i < kWays; i++) {
    // Looked at before: an atomic exchange costs as much as all the rest, whether it happens or
    // not.
    uint64_t held = __atomic_load_n(&set->keys[i], __ATOMIC_RELAXED);
    if (held != key) continue;
    __atomic_compare_exchange_n(&set->keys[i], &held, kFree, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
  }
}

bool RecentDials::find(const Endpoint& local, const Endpoint& destination,
                       RecentDial* found) const {
  const uint64_t key = key_of(local, destination);
  const Set* const set = set_of(key);
  for (size_t i = 0; set != nullptr && i < kWays; i++) {
    if (__atomic_load_n(&set->keys[i], __ATOMIC_ACQUIRE) != key) continue;
    const uint64_t cookie = __atomic_load_n(&set->dials[i].cookie, __ATOMIC_ACQUIRE);
    const uint64_t path = __atomic_load_n(&set->dials[i].path, __ATOMIC_ACQUIRE);
    // Overwritten meanwhile: then it is not about this connection.
    if (__atomic_load_n(&set->keys[i], __ATOMIC_RELAXED) != key) return false;
    *found = {cookie, path & ~kTransparent, (path & kTransparent) != 0};
    return true;
  }
  return false;
}

}  // namespace original_dst
