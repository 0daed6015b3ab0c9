// Is any flow tracked here?
#ifndef ORIGINAL_DST_CONNTRACK_FLOW_PROBE_H_
#define ORIGINAL_DST_CONNTRACK_FLOW_PROBE_H_

#include "socket/owned_fd.h"

namespace original_dst {

enum class Entries { kNone, kSome, kUnreadable };

// Sends datagrams to itself and looks whether conntrack has entries then. Of one network namespace:
// the one in which it is asked first. It keeps what it has opened, because who gets datagrams one
// at a time asks for each of them.
class FlowProbe {
 public:
  // /proc/sys/net/netfilter/nf_conntrack_count: does conntrack know any flow, in whichever zone?
  Entries any();

  // True: none is tracked at the moment of the answer, although a datagram has just left. (Entries
  // are made on the way out, before send(2) returns.) False: some are, or it cannot be found out;
  // where a rule throws the datagram away, sending fails.
  bool leaves_none(int family);

 private:
  // A socket connected to itself.
  struct Echo {
    OwnedFd fd;
    unsigned queued = 0;

    bool send_one(int family);
  };

  Echo v4_;
  Echo v6_;
  OwnedFd count_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_FLOW_PROBE_H_
