#include "host/interface_address.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

namespace original_dst {

namespace {

bool carries(const ifaddrs& entry, const Endpoint& address) {
  if (entry.ifa_addr == nullptr) return false;
  const int family = entry.ifa_addr->sa_family;
  if (family == AF_INET6 && address.family == 6) {
    sockaddr_in6 own;
    memcpy(&own, entry.ifa_addr, sizeof(own));
    return memcmp(&own.sin6_addr, address.bytes, 16) == 0;
  }
  if (family != AF_INET || address.family != 4) return false;
  sockaddr_in own;
  memcpy(&own, entry.ifa_addr, sizeof(own));
  in_addr_t wanted;
  memcpy(&wanted, address.bytes, 4);
  in_addr_t mask = INADDR_BROADCAST;
  if ((entry.ifa_flags & IFF_LOOPBACK) != 0 && entry.ifa_netmask != nullptr) {
    sockaddr_in netmask;
    memcpy(&netmask, entry.ifa_netmask, sizeof(netmask));
    mask = netmask.sin_addr.s_addr;
  }
  return (own.sin_addr.s_addr & mask) == (wanted & mask);
}

}  // namespace

int is_interface_address(const Endpoint& address) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return -errno;
  bool found = false;
  for (const ifaddrs* entry = list; entry != nullptr && !found; entry = entry->ifa_next) {
    found = carries(*entry, address);
  }
  freeifaddrs(list);
  return found;
}

}  // namespace original_dst
