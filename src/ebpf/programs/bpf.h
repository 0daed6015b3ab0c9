// What BPF programs need of the kernel: helpers by number, and maps as the loader reads them.
#ifndef ORIGINAL_DST_EBPF_PROGRAMS_BPF_H_
#define ORIGINAL_DST_EBPF_PROGRAMS_BPF_H_

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// scripts/bpf.ts reads these five words.
struct Map {
  __u32 type, key_size, value_size, max_entries, flags;
};

static void *(*map_lookup)(void *, const void *) = (void *)BPF_FUNC_map_lookup_elem;
static long (*map_update)(void *, const void *, const void *,
                          __u64) = (void *)BPF_FUNC_map_update_elem;
static __u64 (*now_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*current_cpu)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static __u64 (*current_uid_gid)(void) = (void *)BPF_FUNC_get_current_uid_gid;
static __u64 (*current_ancestor_cgroup)(int) = (void *)BPF_FUNC_get_current_ancestor_cgroup_id;
static __u64 (*netns_cookie)(void *) = (void *)BPF_FUNC_get_netns_cookie;
static long (*load_bytes)(const void *, __u32, void *, __u32,
                          __u32) = (void *)BPF_FUNC_skb_load_bytes_relative;
static long (*sk_assign)(void *, void *, __u64) = (void *)BPF_FUNC_sk_assign;
static long (*sk_release)(void *) = (void *)BPF_FUNC_sk_release;

#define NETWORK16(x) ((__u16)__builtin_bswap16(x))
#define NETWORK32(x) __builtin_bswap32(x)

// Keeps clang from choosing between the addresses of two fields in place of their values:
// arithmetic on pointers from two branches, which the verifier refuses to programs that are loaded
// without CAP_PERFMON.
#define KEEP(x) __asm__ volatile("" : "+r"(x))

// What lies on the stack (keys, what helpers write to) is made of these, each written as a whole.
// To a program that is loaded without CAP_PERFMON, the verifier of Linux 6.1 refuses a store to a
// part of eight bytes that hold something it knows (a constant, a number of 32 bits, a saved
// register). test/package/bpf.test.ts looks for such stores in what clang has made.
INLINE __u64 pair(__u32 first, __u32 second) { return (__u64)second << 32 | first; }

// 128 bits in network byte order.
struct Address {
  __u64 high, low;
};

// Of a context's field, which is volatile because some contexts give out no more than 32 bits at
// once.
INLINE struct Address address6(const volatile __u32 *a) {
  return (struct Address){pair(a[0], a[1]), pair(a[2], a[3])};
}

// A key of an LPM trie.
struct Key6 {
  __u64 word[3];
};
INLINE struct Key6 key6(struct Address a) {
  return (struct Key6){{a.high << 32 | 128, a.low << 32 | a.high >> 32, a.low >> 32}};
}
INLINE __u64 key4(__u32 address) { return pair(32, address); }

// For maps with keys of 32 bits: the index is the first half of a word.
INLINE void *map_at(void *map, __u32 index) {
  const __u64 key = pair(index, 0);
  return map_lookup(map, &key);
}

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_BPF_H_
