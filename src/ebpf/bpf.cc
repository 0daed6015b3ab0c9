#include "ebpf/bpf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>

namespace original_dst {

namespace {

// asm-generic/socket.h, newer than some systems' headers.
constexpr int kNetnsCookie = 71;

constexpr size_t kLogSize = size_t{1} << 20;
// As much of the log's end as an error message can bear.
constexpr size_t kLogKept = 600;

// Newer than some systems' headers: BPF_TOKEN_CREATE, BPF_F_TOKEN_FD, and where the descriptor of
// the token lies in what two commands are given.
constexpr int kTokenCreate = 36;
constexpr uint32_t kTokenFlag = 1U << 16;
constexpr size_t kMapToken = 76;
constexpr size_t kProgramToken = 144;

// With room for what the headers do not know.
union Attributes {
  bpf_attr known;
  uint8_t bytes[kProgramToken + 8];
};

int call(int command, bpf_attr* attributes) {
  const long result = syscall(SYS_bpf, command, attributes, sizeof(*attributes));
  return result < 0 ? -errno : static_cast<int>(result);
}

// `at`: where the token lies, unless that is -1. Older kernels are shown nothing that they do not
// know.
int call_with_token(int command, Attributes* attributes, int token, size_t at) {
  if (token < 0) return call(command, &attributes->known);
  memcpy(attributes->bytes + at, &token, sizeof(token));
  const long result = syscall(SYS_bpf, command, attributes, sizeof(attributes->bytes));
  return result < 0 ? -errno : static_cast<int>(result);
}

uint64_t address_of(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

// With room for the terminating zero; names are for bpftool(8) alone.
void name(char (&to)[BPF_OBJ_NAME_LEN], const char* from) {
  memcpy(to, from, std::min(strlen(from), sizeof(to) - 1));
}

template <typename Info>
int info_of(int fd, Info* info) {
  bpf_attr attributes = {};
  attributes.info.bpf_fd = static_cast<uint32_t>(fd);
  attributes.info.info_len = sizeof(*info);
  attributes.info.info = address_of(info);
  return call(BPF_OBJ_GET_INFO_BY_FD, &attributes);
}

int owned(int answer, OwnedFd* fd) {
  if (answer < 0) return answer;
  fd->reset(answer);
  return 0;
}

}  // namespace

int bpf_token_create(const std::string& bpffs, OwnedFd* token) {
  const OwnedFd directory(open(bpffs.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return -errno;
  // token_create: flags, bpffs_fd
  Attributes attributes = {};
  const uint32_t words[] = {0, static_cast<uint32_t>(directory.get())};
  memcpy(attributes.bytes, words, sizeof(words));
  return owned(call(kTokenCreate, &attributes.known), token);
}

int bpf_map_create(const BpfMapImage& image, int token, OwnedFd* map) {
  Attributes wide = {};
  bpf_attr& attributes = wide.known;
  attributes.map_type = image.type;
  attributes.key_size = image.key_size;
  attributes.value_size = image.value_size;
  attributes.max_entries = image.max_entries;
  attributes.map_flags = image.flags | (token < 0 ? 0 : kTokenFlag);
  name(attributes.map_name, image.name);
  return owned(call_with_token(BPF_MAP_CREATE, &wide, token, kMapToken), map);
}

int bpf_map_update(int map, const void* key, const void* value) {
  bpf_attr attributes = {};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = address_of(key);
  attributes.value = address_of(value);
  return call(BPF_MAP_UPDATE_ELEM, &attributes);
}

int bpf_prog_load(const BpfProgramImage& image, uint32_t type, uint32_t attach_type, int token,
                  const OwnedFd* maps, OwnedFd* program, std::string* log) {
  static_assert(sizeof(bpf_insn) == sizeof(uint64_t), "an instruction is one word");
  std::unique_ptr<bpf_insn[]> code(new bpf_insn[image.count]);
  memcpy(code.get(), image.instructions, image.count * sizeof(bpf_insn));
  for (size_t i = 0; i < image.reference_count; i++) {
    bpf_insn& load = code[image.references[i].instruction];
    load.src_reg = BPF_PSEUDO_MAP_FD;
    load.imm = maps[image.references[i].map].get();
  }
  Attributes wide = {};
  bpf_attr& attributes = wide.known;
  attributes.prog_type = type;
  if (token >= 0) attributes.prog_flags = kTokenFlag;
  attributes.expected_attach_type = attach_type;
  attributes.insns = address_of(code.get());
  attributes.insn_cnt = static_cast<uint32_t>(image.count);
  attributes.license = address_of("Dual MIT/GPL");
  name(attributes.prog_name, image.name);
  int answer = call_with_token(BPF_PROG_LOAD, &wide, token, kProgramToken);
  if (answer < 0) {
    // Once more for the log, which costs too much to have it written each time.
    std::unique_ptr<char[]> text(new char[kLogSize]);
    text[0] = '\0';
    attributes.log_buf = address_of(text.get());
    attributes.log_size = kLogSize;
    attributes.log_level = 1;
    const int again = call_with_token(BPF_PROG_LOAD, &wide, token, kProgramToken);
    if (again >= 0) answer = again;
    const size_t length = strnlen(text.get(), kLogSize);
    const size_t kept = std::min(length, kLogKept);
    log->assign(text.get() + length - kept, kept);
  }
  return owned(answer, program);
}

int bpf_link_create(int program, int target, uint32_t attach_type, OwnedFd* link) {
  bpf_attr attributes = {};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  attributes.link_create.target_fd = static_cast<uint32_t>(target);
  attributes.link_create.attach_type = attach_type;
  return owned(call(BPF_LINK_CREATE, &attributes), link);
}

int bpf_link_update(int link, int program) {
  bpf_attr attributes = {};
  attributes.link_update.link_fd = static_cast<uint32_t>(link);
  attributes.link_update.new_prog_fd = static_cast<uint32_t>(program);
  return call(BPF_LINK_UPDATE, &attributes);
}

int bpf_link_target(int link, uint64_t* cgroup, uint32_t* program) {
  bpf_link_info found = {};
  const int status = info_of(link, &found);
  if (status != 0) return status;
  *cgroup = found.cgroup.cgroup_id;
  *program = found.prog_id;
  return found.cgroup.cgroup_id != 0 ? 0 : -ENOLINK;
}

int bpf_map_size(int map, uint32_t* value_size, uint32_t* max_entries) {
  bpf_map_info found = {};
  const int status = info_of(map, &found);
  *value_size = found.value_size;
  *max_entries = found.max_entries;
  return status;
}

int bpf_pin(int fd, const std::string& path) {
  bpf_attr attributes = {};
  attributes.bpf_fd = static_cast<uint32_t>(fd);
  attributes.pathname = address_of(path.c_str());
  return call(BPF_OBJ_PIN, &attributes);
}

int bpf_pinned(const std::string& path, OwnedFd* fd) {
  bpf_attr attributes = {};
  attributes.pathname = address_of(path.c_str());
  return owned(call(BPF_OBJ_GET, &attributes), fd);
}

int bpf_prog_query(int cgroup, uint32_t attach_type, bool effective, uint32_t* programs,
                   uint32_t room) {
  bpf_attr attributes = {};
  attributes.query.target_fd = static_cast<uint32_t>(cgroup);
  attributes.query.attach_type = attach_type;
  if (effective) attributes.query.query_flags = BPF_F_QUERY_EFFECTIVE;
  attributes.query.prog_ids = address_of(programs);
  attributes.query.prog_cnt = room;
  const int status = call(BPF_PROG_QUERY, &attributes);
  if (status != 0 && status != -ENOSPC) return status;
  return static_cast<int>(attributes.query.prog_cnt);
}

int bpf_prog_name(uint32_t program, std::string* name) {
  bpf_attr attributes = {};
  attributes.prog_id = program;
  OwnedFd fd;
  int status = owned(call(BPF_PROG_GET_FD_BY_ID, &attributes), &fd);
  bpf_prog_info found = {};
  if (status == 0) status = info_of(fd.get(), &found);
  name->assign(found.name, strnlen(found.name, sizeof(found.name)));
  return status;
}

int bpf_filter(int socket, int program, bool* waits) {
  // SO_DETACH_BPF takes a value, and looks at none.
  const int option = program < 0 ? SO_DETACH_BPF : SO_ATTACH_BPF;
  if (setsockopt(socket, SOL_SOCKET, option, &program, sizeof(program)) != 0) return -errno;
  char byte = 0;
  *waits = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
  return 0;
}

int netns_cookie(uint64_t* cookie) {
  const OwnedFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any.valid()) return -errno;
  socklen_t length = sizeof(*cookie);
  return getsockopt(any.get(), SOL_SOCKET, kNetnsCookie, cookie, &length) == 0 ? 0 : -errno;
}

}  // namespace original_dst
