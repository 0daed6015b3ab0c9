// Would the kernel deliver a packet for this address to this host, and what makes it do so.
#ifndef ORIGINAL_DST_HOST_ROUTE_H_
#define ORIGINAL_DST_HOST_ROUTE_H_

#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// rtnetlink(7) RTM_GETROUTE for a packet with this mark: 1 when the route is RTN_LOCAL, 0 when it
// is another or there is none, or -errno. The list of interfaces' addresses does not answer that:
// it lacks AnyIP prefixes (`ip route add local …`) and everything that policy rules deliver here.
int is_local_destination(const Endpoint& destination, uint32_t mark);

// RTM_NEWROUTE or RTM_DELROUTE: makes a prefix this host's (`ip route add local PREFIX dev lo`), or
// takes that back. Needs CAP_NET_ADMIN. Returns 0 or -errno: -EEXIST, -ESRCH.
int change_local_route(const Endpoint& prefix, uint8_t length, bool add);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_ROUTE_H_
