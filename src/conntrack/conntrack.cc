#include "conntrack/conntrack.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

#include "namespace/inside.h"

namespace original_dst {

namespace {

bool is_here(uint64_t number) {
  uint64_t here = 0;
  return namespace_number(-1, &here) == 0 && here == number;
}

}  // namespace

int Conntrack::lookup(int where, const ConntrackQuestion& question, Keep keep,
                      ConntrackAnswer* answer) {
  *answer = {};
  if (question.local.family != question.peer.family) return -EAFNOSUPPORT;
  uint64_t number = 0;
  int status = namespace_number(where, &number);
  if (status != 0) return status;
  Place* place = place_of(number);
  OwnedFd opened;
  const OwnedFd* netlink = place == nullptr ? &opened : &place->netlink;
  if (place == nullptr) {
    status = open_socket_at(where, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, &opened);
    if (status != 0) return status;
    if (keep == Keep::kAnywhere || (keep == Keep::kHere && is_here(number))) {
      place = &places_[next_++ % kPlaces];
      place->number = number;
      place->netlink = std::move(opened);
      netlink = &place->netlink;
    }
  }
  status = exchange(*netlink, question, answer);
  // Whatever an exchange that failed has left behind must not meet the next question.
  if (place != nullptr && status != 0 && status != -ENOENT) place->netlink.reset();
  return status;
}

int Conntrack::confirm(int fd, const Facts& facts) {
  ConntrackAnswer answer;
  const int status = lookup(fd, {facts.local, facts.peer, IPPROTO_TCP, 0}, Keep::kNever, &answer);
  if (status != 0) return status;
  const bool same =
      same_address(answer.original, facts.original) && answer.original.port == facts.original.port;
  if (!same || !answer.handshake) return -EADDRINUSE;
  // Asked last: while it is connected nobody else has had its addresses.
  Endpoint peer = {};
  return peer_endpoint(fd, &peer);
}

Conntrack::Place* Conntrack::place_of(uint64_t number) {
  for (Place& place : places_) {
    if (place.netlink.valid() && place.number == number) return &place;
  }
  return nullptr;
}

void Conntrack::forget(int where) {
  uint64_t number = 0;
  if (namespace_number(where, &number) != 0) return;
  Place* const place = place_of(number);
  if (place != nullptr) place->netlink.reset();
}

int Conntrack::exchange(const OwnedFd& netlink, const ConntrackQuestion& question,
                        ConntrackAnswer* answer) {
  uint8_t message[kConntrackQuestionSize];
  const size_t length = write_conntrack_question(question, ++sequence_, message);
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(netlink.get(), message, length, 0, reinterpret_cast<sockaddr*>(&kernel),
             sizeof(kernel)) < 0) {
    return -errno;
  }
  // Entries with labels, counters and sequence adjustments come to some 600 bytes.
  uint8_t reply[4096];
  sockaddr_nl sender = {};
  socklen_t sender_length = sizeof(sender);
  // The kernel has answered before sendto(2) returns: not to wait is to never hang.
  const ssize_t received = recvfrom(netlink.get(), reply, sizeof(reply), MSG_DONTWAIT | MSG_TRUNC,
                                    reinterpret_cast<sockaddr*>(&sender), &sender_length);
  if (received < 0) return -errno;
  // Another process can send to our port too.
  if (sender.nl_pid != 0 || static_cast<size_t>(received) > sizeof(reply)) return -EBADMSG;
  const int status =
      parse_conntrack_answer(reply, static_cast<size_t>(received), sequence_, answer);
  // Entries have no interface; a link-local destination is on the link of the client.
  if (status == 0 && needs_scope(answer->original)) answer->original.scope = question.peer.scope;
  return status;
}

}  // namespace original_dst
