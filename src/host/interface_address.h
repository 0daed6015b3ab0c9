// Which addresses are this host's own?
#ifndef ORIGINAL_DST_HOST_INTERFACE_ADDRESS_H_
#define ORIGINAL_DST_HOST_INTERFACE_ADDRESS_H_

#include "socket/endpoint.h"

namespace original_dst {

// getifaddrs(3): does an interface of this network namespace carry the address? Interfaces that are
// down count (the kernel answers for their addresses all the same; os.networkInterfaces() leaves
// them out), and a loopback interface carries every IPv4 address of its prefixes. 1 yes, 0 no, or
// -errno.
int is_interface_address(const Endpoint& address);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_INTERFACE_ADDRESS_H_
