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

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_BPF_H_
