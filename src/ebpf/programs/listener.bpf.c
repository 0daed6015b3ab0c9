// sk_lookup: whatever is delivered to this namespace at certain ports comes to one socket, by protocol and family.
#include "ebpf/programs/listener.h"

#include "ebpf/programs/bpf.h"

struct Map sockets SECTION("maps") = {BPF_MAP_TYPE_SOCKMAP, 4, 8, kListenerSockets, 0};
struct Map listener_ports SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 65536, 0};
struct Map listener_trie4 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 8, 8, 16384, BPF_F_NO_PREALLOC};
struct Map listener_trie6 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 20, 8, 16384, BPF_F_NO_PREALLOC};
struct Map led SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE};

struct Key4 {
  __u32 length, address;
};
struct Key6 {
  __u32 length, address[4];
};

SECTION("listener/lookup") int lookup(struct bpf_sk_lookup *c) {
  __u32 port = c->local_port, zero = 0;
  const __u64 *wanted = map_lookup(&listener_ports, &port);
  if (!wanted || *wanted == 0) return SK_PASS;
  const void *here;
  __u32 index;
  if (c->family == 2) {
    struct Key4 key = {32, c->local_ip4};
    here = map_lookup(&listener_trie4, &key);
    index = 0;
  } else {
    struct Key6 key = {128, {c->local_ip6[0], c->local_ip6[1], c->local_ip6[2], c->local_ip6[3]}};
    here = map_lookup(&listener_trie6, &key);
    index = 1;
  }
  if (!here) return SK_PASS;
  if (c->protocol == 17) index += 2;
  struct bpf_sock *socket = map_lookup(&sockets, &index);
  if (!socket) return SK_PASS;
  const long refused = sk_assign(c, socket, 0);
  sk_release(socket);
  __u64 *count = map_lookup(&led, &zero);
  if (count && !refused) __sync_fetch_and_add(count, 1);
  return SK_PASS;
}
