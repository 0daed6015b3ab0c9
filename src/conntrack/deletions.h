// Which conntrack entries go away, as the kernel tells it.
#ifndef ORIGINAL_DST_CONNTRACK_DELETIONS_H_
#define ORIGINAL_DST_CONNTRACK_DELETIONS_H_

#include <stdint.h>

#include "conntrack/conntrack_message.h"
#include "socket/endpoint.h"
#include "socket/owned_fd.h"

namespace original_dst {

// The entries of UDP flows to one local port that are deleted before their time: flushed, deleted
// one by one, dropped early. An entry is in this queue before its addresses are free for another.
// Flows that the port's own socket has begun are among them: it answers a datagram whose entry is
// gone by now, and what that client sends next belongs to the entry that the answer has made.
//
// Not those of before start() where nf_conntrack_events is 2 (the default since Linux 5.19): they
// were made without the room for it.
class Deletions {
 public:
  // Joins NFNLGRP_CONNTRACK_DESTROY, with a filter in the kernel for UDP and that port. Needs
  // CAP_NET_ADMIN. Returns 0 or -errno; -EOPNOTSUPP: net.netfilter.nf_conntrack_events is 0.
  int start(uint16_t port);

  // The addresses of the next one, in a direction in which the port is the local one. Returns 1; 0:
  // no more for now; -ENOBUFS: some were missed, go on; or another -errno.
  int next(Endpoint* local, Endpoint* peer);

 private:
  OwnedFd netlink_;
  uint16_t port_ = 0;
  bool says_time_left_ = false;
  // The last entry, and how many of its directions have not been looked at.
  ConntrackDeletion entry_ = {};
  int left_ = 0;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_DELETIONS_H_
