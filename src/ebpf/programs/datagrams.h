// Who has sent a datagram to an alias: a program that is captured, or somebody who sends to the
// alias itself?
//
// sendmsg(2) on a connected socket runs no program, and at connect(2) a socket of UDP has no port
// yet, so that there is nothing that a witness could be known by. What is tagged is the packet: its
// priority, which lasts over the loopback interface, is a random number. Others cannot give a
// packet a priority above 6 without CAP_NET_ADMIN or CAP_NET_RAW, and do not know the number. (A
// mark would last too, but rules go by marks, with masks that any number may match.)
#ifndef ORIGINAL_DST_EBPF_PROGRAMS_DATAGRAMS_H_
#define ORIGINAL_DST_EBPF_PROGRAMS_DATAGRAMS_H_

#define UDP 17

// A datagram for an alias? Headers between that of IPv6 and that of UDP are not looked behind:
// those come untagged.
INLINE int is_for_alias(struct __sk_buff *c, const struct CaptureConfig *g) {
  union {
    __u64 all[5];
    __u32 word[10];
  } header = {{0}};
  union {
    __u64 all;
    __u16 port;
  } to = {0};
  struct Address a;
  __u32 offset, protocol;
  __u64 number;
  if (load_bytes(c, 0, &header, 20, BPF_HDR_START_NET) != 0) return 0;
  if ((header.word[0] & 0xf0) == 0x40) {
    offset = (header.word[0] & 0xf) * 4;
    protocol = header.word[2] >> 8 & 0xff;
    a = mapped(header.word[4]);
  } else {
    offset = 40;
    protocol = header.word[1] >> 16 & 0xff;
    if (protocol == UDP && load_bytes(c, 20, &header.word[5], 20, BPF_HDR_START_NET) != 0) return 0;
    a.high = header.all[3];
    a.low = header.all[4];
  }
  if (protocol != UDP || load_bytes(c, offset + 2, &to.port, 2, BPF_HDR_START_NET) != 0) {
    return 0;
  }
  return is_alias(g, a, to.port, &number);
}

// At the captured cgroup.
SECTION("capture/tag") int tag(struct __sk_buff *c) {
  const struct CaptureConfig *g = configuration();
  if (g && is_for_alias(c, g)) c->priority = g->tag;
  return GO_ON;
}

// At the socket that the aliases lead to. Returns how much of the datagram is kept.
SECTION("capture/filter") int filter(struct __sk_buff *c) {
  const struct CaptureConfig *g = configuration();
  if (!g || !is_for_alias(c, g) || c->priority == g->tag) return -1;
  COUNT(refused);
  return 0;
}

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_DATAGRAMS_H_
