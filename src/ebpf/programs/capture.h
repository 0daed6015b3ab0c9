// What the capture's BPF programs and this process both know: the layout of the maps that they
// share.
#ifndef ORIGINAL_DST_EBPF_PROGRAMS_CAPTURE_H_
#define ORIGINAL_DST_EBPF_PROGRAMS_CAPTURE_H_

#include <linux/types.h>

// An IPv4 address as ::ffff:a.b.c.d; both in network byte order.
struct CaptureDestination {
  __u32 address[4];
  __u16 port;
  __u8 protocol;
  __u8 zero[5];
} __attribute__((aligned(8)));  // compared in words of that size

// One alias, at index `number & mask`. `state` is twice the number, plus one while it is written
// to: a number is given out once, so that whoever finds the same one before and after reading has
// read what belongs to it.
struct CaptureAlias {
  __u64 state;
  struct CaptureDestination destination;
};

// Connections that captured programs have begun and nobody has accepted yet, in sets of four.
struct CaptureWitness {
  __u64 tag;  // capture_tag(); 0: free
  __u64 when;
};
enum { kCaptureWitnessWays = 4, kCaptureWitnessSets = 16384 };
struct CaptureWitnesses {
  struct CaptureWitness way[kCaptureWitnessWays];
};

// Counters are kept by CPU, so that CPUs do not wait for each other's cache lines.
enum { kCaptureCpus = 64 };
struct CaptureCounters {
  __u64 captured;   // connect(2) and sendmsg(2) that were led here
  __u64 exempt;     // left alone, because they are the proxy's
  __u64 refused;    // dials of an alias, and datagrams to one, which is no destination
  __u64 exhausted;  // refused, because no alias was free
  __u64 lost;       // witnesses that made room for others before they were used
  __u64 zero[3];
};

struct CaptureRing {
  __u64 next;     // number
  __u64 first;    // the number that was given out first
  __u64 version;  // of this layout and the programs; 0: new
};

enum { kCaptureExemptions = 8 };
struct CaptureConfig {
  __u64 netns;       // SO_NETNS_COOKIE: programs of another namespace are left alone
  __u64 every_port;  // flows of which no port is asked, where by_port is 0
  __u64 every_v4;
  __u64 every_v6;
  __u64 cgroups[kCaptureExemptions];  // ids
  __u32 levels[kCaptureExemptions];   // of those in the hierarchy
  __u32 uids[kCaptureExemptions];
  __u32 marks[kCaptureExemptions];
  __u32 masks[kCaptureExemptions];
  __u32 cgroup_count;
  __u32 uid_count;
  __u32 mark_count;
  __u32 ring_mask;
  __u32 prefix6[2];  // network byte order
  __u16 port;        // network byte order
  __u8 tcp;
  __u8 udp;
  __u8 v4;
  __u8 v6;
  __u8 by_port;  // look into the map of ports
  __u8 by_v4;    // look into the tries
  __u8 by_v6;
  __u8 zero[3];
  __u32 tag;  // of datagrams that captured programs have sent, as their priority
};

// A flow of `include` is one of the low bits, one of `exclude` one of the high bits.
enum { kCaptureFlows = 32 };

// 127.128.0.0/9. All ones of the 23 bits is a broadcast address.
enum { kCaptureAlias4 = 0x7f800000, kCaptureAlias4Mask = 0x007fffff };

static inline __attribute__((always_inline)) __u64 capture_tag(__u32 source, __u16 port,
                                                               __u32 number) {
  const __u64 tag = ((__u64)source << 32 | (__u32)port << 16 | (number & 0xffff)) ^
                    (__u64)(number >> 16) * 0x9e3779b97f4a7c15ULL;
  return tag != 0 ? tag : 1;
}

static inline __attribute__((always_inline)) __u32 capture_set(__u16 port, __u32 number) {
  return (port * 0x9e37U + number * 0x85ebU) & (kCaptureWitnessSets - 1);
}

// An address in one word; of IPv4 the address itself.
static inline __attribute__((always_inline)) __u32 capture_fold(__u32 a, __u32 b, __u32 c,
                                                                __u32 d) {
  return (a << 7 | a >> 25) ^ (b << 13 | b >> 19) ^ (c << 22 | c >> 10) ^ d;
}

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_CAPTURE_H_
