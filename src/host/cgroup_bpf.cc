#include "host/cgroup_bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace original_dst {

int connect_programs(int cgroup, int family) {
  bpf_attr attributes = {};
  attributes.query.target_fd = static_cast<__u32>(cgroup);
  attributes.query.attach_type = family == 4 ? BPF_CGROUP_INET4_CONNECT : BPF_CGROUP_INET6_CONNECT;
  attributes.query.query_flags = BPF_F_QUERY_EFFECTIVE;
  // Room for no program: the kernel then only counts.
  if (syscall(SYS_bpf, BPF_PROG_QUERY, &attributes, sizeof(attributes)) != 0) return -errno;
  return static_cast<int>(attributes.query.prog_cnt);
}

}  // namespace original_dst
