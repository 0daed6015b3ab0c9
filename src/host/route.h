// Would the kernel deliver a packet for this address to this host?
#ifndef ORIGINAL_DST_HOST_ROUTE_H_
#define ORIGINAL_DST_HOST_ROUTE_H_

#include <stdint.h>

#include "socket/endpoint.h"

namespace original_dst {

// rtnetlink(7) RTM_GETROUTE for a packet with this mark: 1 when the route is RTN_LOCAL, 0 when it
// is another or there is none, or -errno. The list of interfaces' addresses does not answer that:
// it lacks AnyIP prefixes (`ip route add local …`) and everything that policy rules deliver here.
int is_local_destination(const Endpoint& destination, uint32_t mark);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_ROUTE_H_
