// Is connection tracking at work here?
#ifndef ORIGINAL_DST_CONNTRACK_ACTIVITY_H_
#define ORIGINAL_DST_CONNTRACK_ACTIVITY_H_

namespace original_dst {

// In this network namespace, for family 4 or 6. Sends a datagram to itself and looks whether there
// is any entry (10 µs); if there is one, it may be older or another family's, and SO_ORIGINAL_DST
// is asked of a loopback connection to a listener of our own (three times as long). 1 yes, 0 no, or
// -errno when that could not be found out.
//
// Nothing cheaper tells: the files under /proc are there whenever the module is loaded, hooked or
// not, and without traffic of our own the number of entries is 0 after a flush.
// Blind spot: rules that exempt the loopback device from conntrack, while no other connection has
// an entry.
int conntrack_active(int family);

}  // namespace original_dst

#endif  // ORIGINAL_DST_CONNTRACK_ACTIVITY_H_
