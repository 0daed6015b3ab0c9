// bpf(2), without a library: maps, programs, links, pins. Functions return 0, a descriptor or
// -errno.
#ifndef ORIGINAL_DST_EBPF_BPF_H_
#define ORIGINAL_DST_EBPF_BPF_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "ebpf/image.h"
#include "socket/owned_fd.h"

namespace original_dst {

// What has failed, for the error: a command of bpf(2) and what it was about, and the end of the
// verifier's log where there is one.
struct BpfFailure {
  std::string step;
  std::string log;
};

// BPF_TOKEN_CREATE, Linux 6.9: rights that the one who has mounted a bpffs has delegated to this
// user namespace. `bpffs`: its directory.
int bpf_token_create(const std::string& bpffs, OwnedFd* token);

// `token`: -1: this thread's own rights.
int bpf_map_create(const BpfMapImage& image, int token, OwnedFd* map);
int bpf_map_update(int map, const void* key, const void* value);

// `maps`: the descriptors, by the numbers that the image refers to.
int bpf_prog_load(const BpfProgramImage& image, uint32_t type, uint32_t attach_type, int token,
                  const OwnedFd* maps, OwnedFd* program, std::string* log);

// BPF_LINK_CREATE to a cgroup's directory or a network namespace: the program is attached for as
// long as the link has a descriptor or a pin.
int bpf_link_create(int program, int target, uint32_t attach_type, OwnedFd* link);
// The link goes on with another program, without a moment between the two.
int bpf_link_update(int link, int program);
// To which cgroup, by its id, and with which program, by its number. ENOLINK: the cgroup is gone.
int bpf_link_target(int link, uint64_t* cgroup, uint32_t* program);

int bpf_map_size(int map, uint32_t* value_size, uint32_t* max_entries);

int bpf_pin(int fd, const std::string& path);
int bpf_pinned(const std::string& path, OwnedFd* fd);

// BPF_PROG_QUERY: the numbers of the programs that are attached to a cgroup at this place, with
// `effective` those of the cgroups above too; at most `room`. Returns how many there are, or
// -errno.
int bpf_prog_query(int cgroup, uint32_t attach_type, bool effective, uint32_t* programs,
                   uint32_t room);
// BPF_PROG_GET_FD_BY_ID: what the one who loaded it has called it. Needs CAP_SYS_ADMIN.
int bpf_prog_name(uint32_t program, std::string* name);

// setsockopt(SO_ATTACH_BPF), in place of the filter that the socket had; -1: it has none from now
// on. `waits`: does something wait in the socket that has come before, or may have?
int bpf_filter(int socket, int program, bool* waits);

// getsockopt(SO_NETNS_COOKIE), Linux 5.14: this thread's network namespace.
int netns_cookie(uint64_t* cookie);

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_BPF_H_
