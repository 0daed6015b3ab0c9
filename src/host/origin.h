// Does an accepted connection come from this program itself?
#ifndef ORIGINAL_DST_HOST_ORIGIN_H_
#define ORIGINAL_DST_HOST_ORIGIN_H_

#include <stdint.h>

#include "host/recent_dials.h"
#include "socket/original_dst.h"

namespace original_dst {

enum Origin : uint8_t {
  kElsewhere = 0,
  kLoop = 1,           // from a dial for a client that came through this very listener
  kOwnDial = 2,        // from a dial of which nobody said whose client it was for
  kOtherListener = 3,  // from a dial for a client of another listener: once inbound, once outbound
};

// Where a connection to the listener at `port` was dialled, and `*path` for the dial that will be
// made for it. Costs a look into memory; the kernel is asked only about what is found there.
//
// It is the other end of a dial when the dial went from the peer's address to where this connection
// was going, and that socket is still there: two sockets of one host cannot have the same
// addresses. That leaves two cases: a transparent dial has its client's address, which the client
// may use once more, and then only what was sent by this host itself is a dial of ours; and a dial
// that is gone, which was ours if the accepted socket is gone with it.
Origin origin_of(int accepted, const Facts& facts, const Endpoint& destination, uint16_t port,
                 const RecentDials& dials, Path* path);

// The destination, before TypeScript has found out what kind of one it is.
const Endpoint& likely_destination(const Facts& facts);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_ORIGIN_H_
