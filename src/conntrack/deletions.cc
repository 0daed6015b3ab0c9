#include "conntrack/deletions.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <system_error>
#include <utility>

#include "conntrack/conntrack_message.h"

namespace original_dst {

namespace {

// A burst of deletions (a flush) is read with the next datagram: there must be room until then.
constexpr int kReceiveBuffer = 4 << 20;

constexpr uint32_t kAttributes = sizeof(nlmsghdr) + sizeof(nfgenmsg);
constexpr uint32_t kAttribute = static_cast<uint32_t>(SKF_AD_OFF) + SKF_AD_NLATTR;
constexpr uint32_t kNested = static_cast<uint32_t>(SKF_AD_OFF) + SKF_AD_NLATTR_NEST;

constexpr size_t kTestLength = 13;

// Instructions that skip `to_accept` of those behind them if that direction of the entry begins at
// the port.
void write_test(uint16_t direction, uint16_t port, uint8_t to_accept, sock_filter* at) {
  const sock_filter test[kTestLength] = {
      BPF_STMT(BPF_LD | BPF_IMM, kAttributes),
      BPF_STMT(BPF_LDX | BPF_IMM, direction),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAttribute),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 9, 0),
      BPF_STMT(BPF_LDX | BPF_IMM, CTA_TUPLE_PROTO),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNested),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 0),
      BPF_STMT(BPF_LDX | BPF_IMM, CTA_PROTO_SRC_PORT),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNested),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_H | BPF_IND, sizeof(nlattr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, to_accept, 0),
  };
  memcpy(at, test, sizeof(test));
}

// Lets pass what has that source port in one of its directions. Without it the queue would be full
// of everybody's connections.
int attach_filter(int fd, uint16_t port) {
  sock_filter program[2 * kTestLength + 2];
  write_test(CTA_TUPLE_REPLY, port, kTestLength + 1, program);
  write_test(CTA_TUPLE_ORIG, port, 1, program + kTestLength);
  program[2 * kTestLength] = BPF_STMT(BPF_RET | BPF_K, 0);
  program[2 * kTestLength + 1] = BPF_STMT(BPF_RET | BPF_K, ~0U);
  const sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0 ? 0 : -errno;
}

// The first bytes of a file under /proc, ended by zero.
template <size_t size>
void read_start(const char* path, char (&text)[size]) {
  const OwnedFd file(open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t length = file.valid() ? read(file.get(), text, size - 1) : 0;
  text[length > 0 ? length : 0] = '\0';
}

// Since Linux 5.8 the news of an entry has the time that was left, if there was any.
bool says_time_left() {
  char release[32];
  read_start("/proc/sys/kernel/osrelease", release);
  unsigned major = 0;
  unsigned minor = 0;
  const char* const end = release + strlen(release);
  const std::from_chars_result dot = std::from_chars(release, end, major);
  if (dot.ec == std::errc() && dot.ptr != end) std::from_chars(dot.ptr + 1, end, minor);
  return major > 5 || (major == 5 && minor >= 8);
}

}  // namespace

int Deletions::start(uint16_t port) {
  char events[2];
  read_start("/proc/sys/net/netfilter/nf_conntrack_events", events);
  if (events[0] == '0') return -EOPNOTSUPP;
  port_ = port;
  says_time_left_ = says_time_left();
  OwnedFd opened(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  if (!opened.valid()) return -errno;
  const int room = kReceiveBuffer;
  // Refused without CAP_NET_ADMIN of the machine itself: then there is as much as is usual.
  static_cast<void>(setsockopt(opened.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ==
                        0 ||
                    setsockopt(opened.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) == 0);
  const int status = attach_filter(opened.get(), port);
  if (status != 0) return status;
  // A socket without a port of its own is passed over by what the kernel sends of its own accord.
  sockaddr_nl any = {};
  any.nl_family = AF_NETLINK;
  const int group = NFNLGRP_CONNTRACK_DESTROY;
  if (bind(opened.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)) != 0 ||
      setsockopt(opened.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
    return -errno;
  }
  netlink_ = std::move(opened);
  return 0;
}

int Deletions::next(Endpoint* local, Endpoint* peer) {
  for (;;) {
    while (left_ > 0) {
      const ConntrackDirection& direction = entry_.directions[--left_];
      if (direction.local.port != port_) continue;
      *local = direction.local;
      *peer = direction.peer;
      return 1;
    }
    uint8_t message[4096];
    sockaddr_nl sender = {};
    socklen_t length = sizeof(sender);
    const ssize_t received = recvfrom(netlink_.get(), message, sizeof(message), MSG_TRUNC,
                                      reinterpret_cast<sockaddr*>(&sender), &length);
    if (received < 0) return errno == EAGAIN ? 0 : -errno;
    if (sender.nl_pid != 0) continue;  // another process can send to our port too
    if (static_cast<size_t>(received) > sizeof(message)) return -ENOBUFS;
    if (parse_conntrack_deletion(message, static_cast<size_t>(received), &entry_) != 0) {
      return -ENOBUFS;
    }
    if (entry_.protocol == IPPROTO_UDP && (!says_time_left_ || entry_.time_left)) left_ = 2;
  }
}

}  // namespace original_dst
