// BPF programs and maps as they lie in the binary, before the kernel has them.
#ifndef ORIGINAL_DST_EBPF_IMAGE_H_
#define ORIGINAL_DST_EBPF_IMAGE_H_

#include <stddef.h>
#include <stdint.h>

namespace original_dst {

struct BpfMapImage {
  const char* name;
  uint32_t type;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t flags;
};

// The instruction that loads a map's address.
struct BpfMapReference {
  uint16_t instruction;
  uint16_t map;
};

struct BpfProgramImage {
  const char* name;
  const uint64_t* instructions;
  size_t count;
  const BpfMapReference* references;
  size_t reference_count;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_IMAGE_H_
