// What connection tracking remembers of a flow, asked of the kernel by netlink.
#ifndef ORIGINAL_DST_CONNTRACK_CONNTRACK_H_
#define ORIGINAL_DST_CONNTRACK_CONNTRACK_H_

#include "conntrack/conntrack_message.h"
#include "socket/original_dst.h"
#include "socket/owned_fd.h"

namespace original_dst {

// Asks by a socket of the namespace that is meant. A new one for each question takes 15 µs instead
// of 5, and more in another namespace, which an open socket keeps alive. So whoever opens it says
// whether it is kept. All use what is kept, and nobody closes that but forget(), an exchange that
// fails, or a ninth namespace.
class Conntrack {
 public:
  enum class Keep : uint8_t {
    kNever,     // of what is seldom asked
    kHere,      // of what is asked of a connection: where this thread is, and nowhere else
    kAnywhere,  // of a datagram socket, which asks there until it closes and says forget()
  };

  // socket(NETLINK_NETFILTER), IPCTNL_MSG_CT_GET by the reply tuple. Finds what SO_ORIGINAL_DST
  // cannot be asked for: UDP, MPTCP, and entries in a zone. Needs CAP_NET_ADMIN in the user
  // namespace that owns the network namespace. Returns 0 or -errno: -ENOENT no such entry, -EPERM,
  // -EPROTONOSUPPORT or -EINVAL where the kernel has no ctnetlink. `where`: a socket of the
  // namespace whose entries are meant, or -1 for this thread's.
  int lookup(int where, const ConntrackQuestion& question, Keep keep, ConntrackAnswer* answer);
  // check_entry() has said -EADDRINUSE of the accepted connection that `facts` are about: is the
  // entry its own all the same, because those segments were its client's, who sends what is not
  // acknowledged in time again? An entry that has seen a handshake to its end can only have seen
  // that of the one socket which has its addresses: a stranger's SYN gets no SYN-ACK from that, and
  // other segments of a stranger begin an entry that is known to be picked up. Returns 0;
  // -EADDRINUSE: it may be a stranger's; -ENOTCONN: the socket is closed by now, an MPTCP socket's
  // subflow excepted; or -errno as lookup().
  int confirm(int fd, const Facts& facts);
  // Keeps no socket for the namespace of `where` any more.
  void forget(int where);

 private:
  // A namespace that was asked.
  struct Place {
    uint64_t number = 0;
    OwnedFd netlink;
  };
  static constexpr unsigned kPlaces = 8;

  Place* place_of(uint64_t number);
  int exchange(const OwnedFd& netlink, const ConntrackQuestion& question, ConntrackAnswer* answer);

  Place places_[kPlaces];
  unsigned next_ = 0;
  uint32_t sequence_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_CONNTRACK_H_
