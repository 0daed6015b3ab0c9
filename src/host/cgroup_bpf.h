// bpf(2) BPF_PROG_QUERY: programs of cgroups that see, and may rewrite, connections.
#ifndef ORIGINAL_DST_HOST_CGROUP_BPF_H_
#define ORIGINAL_DST_HOST_CGROUP_BPF_H_

namespace original_dst {

// How many programs run at connect(2) of a socket of a family (4 or 6) in a cgroup, those of the
// cgroups above included. `cgroup` is the directory's fd. Needs CAP_NET_ADMIN or CAP_SYS_ADMIN in
// the initial user namespace. Returns the number, or -errno.
int connect_programs(int cgroup, int family);

}  // namespace original_dst

#endif  // ORIGINAL_DST_HOST_CGROUP_BPF_H_
