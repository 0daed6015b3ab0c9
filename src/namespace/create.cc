#include "namespace/create.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>

#include "namespace/inside.h"

namespace original_dst {

namespace {

struct Making {
  OwnedFd* net;
  bool ipv4_only;
  bool user;  // in a user namespace of its own, with this user
  unsigned uid;
  unsigned gid;
  int status;
  CreateStep step;
};

int write_file(const char* path, const char* text, size_t length) {
  const OwnedFd file(open(path, O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return -errno;
  return write(file.get(), text, length) == static_cast<ssize_t>(length) ? 0 : -errno;
}

// uid_map(5): "0 ID 1".
int map_to_root(const char* path, unsigned id) {
  char text[32] = "0 ";
  char* const end = std::to_chars(text + 2, text + sizeof(text) - 3, id).ptr;
  memcpy(end, " 1", 2);
  return write_file(path, text, static_cast<size_t>(end + 2 - text));
}

int map_ids(const Making& making) {
  // Whoever may not drop groups cannot use them to get past a file's permissions: only so is one
  // allowed to map groups without a right to.
  constexpr char kDeny[] = "deny";
  int status = write_file("/proc/self/setgroups", kDeny, strlen(kDeny));
  if (status == 0) status = map_to_root("/proc/self/uid_map", making.uid);
  return status != 0 ? status : map_to_root("/proc/self/gid_map", making.gid);
}

int raise_loopback() {
  const OwnedFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any.valid()) return -errno;
  ifreq request = {};
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  return ioctl(any.get(), SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
}

// /proc/sys/net is that of whoever opens it. A kernel without IPv6 has not got these.
int switch_ipv6_off() {
  constexpr const char* kSwitches[] = {"/proc/sys/net/ipv6/conf/all/disable_ipv6",
                                       "/proc/sys/net/ipv6/conf/default/disable_ipv6"};
  for (const char* const path : kSwitches) {
    const int status = write_file(path, "1", 1);
    if (status != 0 && status != -ENOENT) return status;
  }
  return 0;
}

// In the child, which is in there.
void make(void* context) {
  auto* const making = static_cast<Making*>(context);
  making->step = kCreateIdMap;
  making->status = making->user ? map_ids(*making) : 0;
  if (making->status != 0) return;
  making->step = kCreateOpen;
  making->net->reset(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!making->net->valid()) {
    making->status = -errno;
    return;
  }
  // First, or the loopback interface would have ::1.
  making->step = kCreateIpv4Only;
  making->status = making->ipv4_only ? switch_ipv6_off() : 0;
  if (making->status != 0) return;
  making->step = kCreateLoopback;
  making->status = raise_loopback();
}

}  // namespace

int create_namespace(bool ipv4_only, OwnedFd* net, CreateStep* failed) {
  Making making = {net, ipv4_only, false, geteuid(), getegid(), 0, kCreateClone};
  int status = call_in_child(CLONE_NEWNET, make, &making);
  if (status == -EPERM) {
    making.user = true;
    status = call_in_child(CLONE_NEWUSER | CLONE_NEWNET, make, &making);
  }
  *failed = status != 0 ? kCreateClone : making.step;
  if (status == 0) status = making.status;
  if (status != 0) net->reset();
  return status;
}

}  // namespace original_dst
