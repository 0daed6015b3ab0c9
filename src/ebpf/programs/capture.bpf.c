// Connect-time capture. Each destination gets an alias, an address of this host's loopback range, and connect(2) or
// sendmsg(2) go to the alias at the proxy's port: the accepted socket's local address says which destination it was.
// A connection is kept nowhere but for the moment between connect(2) and accept(2): a witness that it was captured,
// and not made by somebody who has dialled the alias.
#include "ebpf/programs/capture.h"

#include "ebpf/programs/bpf.h"

#define MAPPED NETWORK32(0xffff)
#define REFUSE 0
#define GO_ON 1

struct Map config SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct CaptureConfig), 1, 0};
// The sizes of `forward` and `aliases` are set by the loader.
struct Map forward SECTION("maps") = {BPF_MAP_TYPE_LRU_HASH, sizeof(struct CaptureDestination), 8,
                                      16384, 0};
struct Map aliases SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct CaptureAlias), 16384,
                                      BPF_F_MMAPABLE};
struct Map witnesses SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct CaptureWitnesses),
                                        kCaptureWitnessSets, BPF_F_MMAPABLE};
struct Map counters SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct CaptureCounters),
                                       kCaptureCpus, BPF_F_MMAPABLE};
struct Map ring SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct CaptureRing), 1,
                                   BPF_F_MMAPABLE};
struct Map ports SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 65536, 0};
struct Map trie4 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 8, 8, 16384, BPF_F_NO_PREALLOC};
struct Map trie6 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 20, 8, 16384, BPF_F_NO_PREALLOC};

// What CaptureDestination holds, in whole words.
struct Destination {
  struct Address address;
  __u64 port_and_protocol;
};

INLINE struct CaptureConfig *configuration(void) { return map_at(&config, 0); }

INLINE struct CaptureCounters *counted(void) {
  return map_at(&counters, current_cpu() & (kCaptureCpus - 1));
}

#define COUNT(field)                                             \
  do {                                                           \
    struct CaptureCounters *at = counted();                      \
    if (at) __sync_fetch_and_add(&at->field, 1);                 \
  } while (0)

INLINE struct Address mapped(__u32 v4) { return (struct Address){0, pair(MAPPED, v4)}; }

INLINE int is_mapped(struct Address a) { return a.high == 0 && (__u32)a.low == MAPPED; }

// The last 32 bits; an IPv4 address whole.
INLINE __u32 last_of(struct Address a) { return NETWORK32((__u32)(a.low >> 32)); }

INLINE struct Destination destination(struct Address address, __u32 port, __u32 protocol) {
  return (struct Destination){address, (__u16)port | (__u8)protocol << 16};
}

INLINE __u16 port_of(const struct Destination *d) { return (__u16)d->port_and_protocol; }

INLINE int same(const struct CaptureDestination *a, const struct Destination *b) {
  const volatile __u64 *x = (const volatile __u64 *)a;
  return x[0] == b->address.high && x[1] == b->address.low && x[2] == b->port_and_protocol;
}

// Is it an alias of ours? `*number`: as much of the alias' number as the address has room for.
INLINE int is_alias(const struct CaptureConfig *g, struct Address a, __u16 port, __u64 *number) {
  if (port != g->port) return 0;
  const __u32 last = last_of(a);
  if (is_mapped(a)) {
    if ((last & ~kCaptureAlias4Mask) != kCaptureAlias4) return 0;
    *number = last & kCaptureAlias4Mask;
    return 1;
  }
  if (a.high != pair(g->prefix6[0], g->prefix6[1])) return 0;
  *number = (__u64)NETWORK32((__u32)a.low) << 32 | last;
  return 1;
}

// Multicast, broadcast, this host's loopback and what the address alone does not say: link-local IPv6 addresses, whose
// interface the program is not told.
INLINE int is_out_of_reach(struct Address a) {
  const __u32 last = last_of(a);
  if (is_mapped(a)) {
    const __u32 first = last >> 24;
    return first == 127 || first == 0 || first >= 224;
  }
  if (a.high == 0 && (__u32)a.low == 0) return last <= 1;
  const __u32 first = NETWORK32((__u32)a.high) >> 16;
  return first >= 0xff00 || (first & 0xffc0) == 0xfe80;
}

INLINE int is_exempt(const struct bpf_sock_addr *c, const struct CaptureConfig *g) {
  if (g->uid_count > 0) {
    const __u32 uid = (__u32)current_uid_gid();
#pragma unroll
    for (int i = 0; i < kCaptureExemptions; i++) {
      if (i < g->uid_count && g->uids[i] == uid) return 1;
    }
  }
  if (g->mark_count > 0 && c->sk) {
    const __u32 mark = c->sk->mark;
#pragma unroll
    for (int i = 0; i < kCaptureExemptions; i++) {
      if (i < g->mark_count && (mark & g->masks[i]) == g->marks[i]) return 1;
    }
  }
#pragma unroll
  for (int i = 0; i < kCaptureExemptions; i++) {
    if (i >= g->cgroup_count) return 0;
    if (current_ancestor_cgroup(g->levels[i]) == g->cgroups[i]) return 1;
  }
  return 0;
}

// Which of the flows the destination is of.
INLINE __u64 flows(const struct CaptureConfig *g, const struct Destination *d) {
  const struct Address a = d->address;
  __u64 by_port = g->every_port, by_address;
  if (g->by_port) {
    const __u64 *found = map_at(&ports, NETWORK16(port_of(d)));
    by_port = found ? *found : 0;
  }
  if (is_mapped(a)) {
    by_address = g->every_v4;
    if (g->by_v4) {
      const __u64 key = key4(a.low >> 32);
      const __u64 *found = map_lookup(&trie4, &key);
      by_address = found ? *found : 0;
    }
  } else {
    by_address = g->every_v6;
    if (g->by_v6) {
      const struct Key6 key = key6(a);
      const __u64 *found = map_lookup(&trie6, &key);
      by_address = found ? *found : 0;
    }
  }
  return by_port & by_address;
}

// The number of the destination's alias, or 0.
INLINE __u64 alias_of(const struct CaptureConfig *g, const struct Destination *d) {
  struct CaptureRing *r = map_at(&ring, 0);
  if (!r) return 0;
  const __u32 mask = g->ring_mask;
  __u64 *known = map_lookup(&forward, d);
  if (known) {
    const __u64 number = *(volatile __u64 *)known;
    const struct CaptureAlias *a = map_at(&aliases, number & mask);
    // An alias in the older half of the ring is given up for a new one: what is led to it has to stay good until the
    // connection is accepted.
    if (a && *(volatile __u64 *)&a->state == number << 1 && same(&a->destination, d) &&
        *(volatile __u64 *)&r->next - number <= mask / 2) {
      return number;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    __u64 number = __sync_fetch_and_add(&r->next, 1);
    if ((number & kCaptureAlias4Mask) == kCaptureAlias4Mask) continue;
    struct CaptureAlias *a = map_at(&aliases, number & mask);
    if (!a) return 0;
    const __u64 before = *(volatile __u64 *)&a->state;
    // Another CPU writes there, and was interrupted for a whole round of the ring.
    if (before & 1) continue;
    if (__sync_val_compare_and_swap(&a->state, before, number << 1 | 1) != before) continue;
    __builtin_memcpy(&a->destination, d, sizeof(*d));
    // A full barrier, which a plain store is not.
    __sync_lock_test_and_set(&a->state, number << 1);
    map_update(&forward, d, &number, BPF_ANY);
    return number;
  }
  return 0;
}

// Where the program's address is to be changed to. Returns GO_ON, or REFUSE: the call fails with EPERM.
INLINE int capture(struct bpf_sock_addr *c, const struct CaptureConfig *g,
                   const struct Destination *d, __u64 *number) {
  __u64 dialled;
  *number = 0;
  // In whatever namespace: a witness is believed without one.
  if (is_alias(g, d->address, port_of(d), &dialled)) {
    COUNT(refused);
    return REFUSE;
  }
  const __u32 tcp = g->tcp, udp = g->udp;
  if (c->protocol == 6 ? !tcp : c->protocol == 17 ? !udp : 1) return GO_ON;
  if (port_of(d) == 0 || is_out_of_reach(d->address)) return GO_ON;
  __u64 ours = g->netns;
  KEEP(ours);
  if (netns_cookie(c) != ours) return GO_ON;
  const __u64 which = flows(g, d);
  if ((which & 0xffffffff) == 0 || which >> 32 != 0) return GO_ON;
  if (is_exempt(c, g)) {
    COUNT(exempt);
    return GO_ON;
  }
  *number = alias_of(g, d);
  if (*number == 0) {
    COUNT(exhausted);
    return REFUSE;
  }
  COUNT(captured);
  return GO_ON;
}

INLINE int to_alias4(struct bpf_sock_addr *c) {
  const struct CaptureConfig *g = configuration();
  const struct Destination d = destination(mapped(c->user_ip4), c->user_port, c->protocol);
  __u64 number;
  if (!g) return GO_ON;
  if (!g->v4) return GO_ON;
  const int answer = capture(c, g, &d, &number);
  if (number == 0) return answer;
  c->user_ip4 = NETWORK32(kCaptureAlias4 | (__u32)(number & kCaptureAlias4Mask));
  c->user_port = g->port;
  return GO_ON;
}

INLINE int to_alias6(struct bpf_sock_addr *c) {
  const struct CaptureConfig *g = configuration();
  const struct Destination d = destination(address6(c->user_ip6), c->user_port, c->protocol);
  __u64 number;
  if (!g) return GO_ON;
  const int is_v4 = is_mapped(d.address);
  const __u32 v4 = g->v4, v6 = g->v6;
  if (is_v4 ? !v4 : !v6) return GO_ON;
  const int answer = capture(c, g, &d, &number);
  if (number == 0) return answer;
  if (is_v4) {
    c->user_ip6[3] = NETWORK32(kCaptureAlias4 | (__u32)(number & kCaptureAlias4Mask));
  } else {
    c->user_ip6[0] = g->prefix6[0];
    c->user_ip6[1] = g->prefix6[1];
    c->user_ip6[2] = NETWORK32((__u32)(number >> 32));
    c->user_ip6[3] = NETWORK32((__u32)number);
  }
  c->user_port = g->port;
  return GO_ON;
}

// The destination that an alias stands for, or null.
INLINE const struct CaptureDestination *behind(struct bpf_sock_addr *c, struct Address a,
                                               __u16 port) {
  const struct CaptureConfig *g = configuration();
  __u64 number;
  if (!g || !is_alias(g, a, port, &number)) return 0;
  __u64 ours = g->netns;
  KEEP(ours);
  if (netns_cookie(c) != ours) return 0;
  const struct CaptureAlias *at = map_at(&aliases, number & g->ring_mask);
  if (!at) return 0;
  const __u64 state = *(volatile __u64 *)&at->state;
  const __u64 room = is_mapped(a) ? kCaptureAlias4Mask : ~0ULL >> 1;
  if (state & 1 || (state >> 1 & room) != number) return 0;
  return at->destination.protocol == c->protocol ? &at->destination : 0;
}

INLINE int from_alias4(struct bpf_sock_addr *c) {
  const struct CaptureDestination *d = behind(c, mapped(c->user_ip4), (__u16)c->user_port);
  if (!d) return GO_ON;
  c->user_ip4 = d->address[3];
  c->user_port = d->port;
  return GO_ON;
}

INLINE int from_alias6(struct bpf_sock_addr *c) {
  const struct Address a = address6(c->user_ip6);
  const struct CaptureDestination *d = behind(c, a, (__u16)c->user_port);
  if (!d) return GO_ON;
  c->user_ip6[0] = d->address[0];
  c->user_ip6[1] = d->address[1];
  c->user_ip6[2] = d->address[2];
  c->user_ip6[3] = d->address[3];
  c->user_port = d->port;
  return GO_ON;
}

SECTION("capture/to4") int to4(struct bpf_sock_addr *c) { return to_alias4(c); }
SECTION("capture/to6") int to6(struct bpf_sock_addr *c) { return to_alias6(c); }
SECTION("capture/from4") int from4(struct bpf_sock_addr *c) { return from_alias4(c); }
SECTION("capture/from6") int from6(struct bpf_sock_addr *c) { return from_alias6(c); }

// tcp_connect(): the source port is chosen, SYN not sent yet.
SECTION("capture/witness") int witness(struct bpf_sock_ops *c) {
  if (c->op != BPF_SOCK_OPS_TCP_CONNECT_CB) return 1;
  const struct CaptureConfig *g = configuration();
  if (!g) return 1;
  struct Address remote;
  __u32 source;
  if (c->family == 2) {
    remote = mapped(c->remote_ip4);
    source = c->local_ip4;
  } else {
    remote = address6(c->remote_ip6);
    source = capture_fold(c->local_ip6[0], c->local_ip6[1], c->local_ip6[2], c->local_ip6[3]);
    if (is_mapped(remote)) source = c->local_ip6[3];
  }
  __u64 number;
  // The kernel has moved the port into the upper half.
  if (!is_alias(g, remote, (__u16)(c->remote_port >> 16), &number)) return 1;
  const __u16 port = (__u16)c->local_port;
  const __u64 tag = capture_tag(source, port, (__u32)number);
  struct CaptureWitnesses *w = map_at(&witnesses, capture_set(port, (__u32)number));
  if (!w) return 1;
  const __u64 now = now_ns();
  __u64 oldest = ~0ULL;
  __u32 chosen = 0;
#pragma unroll
  for (int i = 0; i < kCaptureWitnessWays; i++) {
    if (*(volatile __u64 *)&w->way[i].tag == 0) {
      w->way[i].when = now;
      if (__sync_val_compare_and_swap(&w->way[i].tag, 0, tag) == 0) return 1;
    }
    const __u64 when = *(volatile __u64 *)&w->way[i].when;
    if (when < oldest) {
      oldest = when;
      chosen = i;
    }
  }
  COUNT(lost);
#pragma unroll
  for (int i = 0; i < kCaptureWitnessWays; i++) {
    if (chosen != i) continue;
    w->way[i].when = now;
    __sync_lock_test_and_set(&w->way[i].tag, tag);
  }
  return 1;
}

// Goes by what is above.
#include "ebpf/programs/datagrams.h"
