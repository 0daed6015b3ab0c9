// sk_lookup: whatever is delivered to this namespace at certain ports comes to one socket, by protocol and family.
#include "ebpf/programs/listener.h"

#include "ebpf/programs/bpf.h"

struct Map sockets SECTION("maps") = {BPF_MAP_TYPE_SOCKMAP, 4, 8, kListenerSockets, 0};
struct Map listener_ports SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 65536, 0};
struct Map listener_trie4 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 8, 8, 16384, BPF_F_NO_PREALLOC};
struct Map listener_trie6 SECTION("maps") = {BPF_MAP_TYPE_LPM_TRIE, 20, 8, 16384, BPF_F_NO_PREALLOC};
struct Map led SECTION("maps") = {BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE};

SECTION("listener/lookup") int lookup(struct bpf_sk_lookup *c) {
  const __u64 *wanted = map_at(&listener_ports, c->local_port);
  if (!wanted || *wanted == 0) return SK_PASS;
  const void *here;
  __u32 index;
  if (c->family == 2) {
    const __u64 key = key4(c->local_ip4);
    here = map_lookup(&listener_trie4, &key);
    index = 0;
  } else {
    const struct Key6 key = key6(address6(c->local_ip6));
    here = map_lookup(&listener_trie6, &key);
    index = 1;
  }
  if (!here) return SK_PASS;
  if (c->protocol == 17) index += 2;
  struct bpf_sock *socket = map_at(&sockets, index);
  if (!socket) return SK_PASS;
  const long refused = sk_assign(c, socket, 0);
  sk_release(socket);
  __u64 *count = map_at(&led, 0);
  if (count && !refused) __sync_fetch_and_add(count, 1);
  return SK_PASS;
}
