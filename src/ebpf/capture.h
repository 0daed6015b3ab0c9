// Connect-time capture of a cgroup's programs: the BPF programs loaded, attached, and their maps
// filled.
#ifndef ORIGINAL_DST_EBPF_CAPTURE_H_
#define ORIGINAL_DST_EBPF_CAPTURE_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "ebpf/alias_table.h"
#include "ebpf/bpf.h"
#include "ebpf/programs.h"
#include "ebpf/programs/capture.h"
#include "socket/owned_fd.h"

namespace original_dst {

// Which flows an address is of; as the key and value of the map.
struct CapturePrefix4 {
  uint32_t length;
  uint8_t address[4];
  uint64_t flows;
};
struct CapturePrefix6 {
  uint32_t length;
  uint8_t address[16];
  uint32_t zero;
  uint64_t flows;
};
static_assert(sizeof(CapturePrefix4) == 16 && sizeof(CapturePrefix6) == 32,
              "lib/ebpf/flows.ts knows this layout");

struct CaptureOptions {
  int cgroup;             // its directory
  CaptureConfig config;   // but for what open() knows better: netns, ring_mask
  const uint64_t* ports;  // the flows of each of 65,536, or null
  const CapturePrefix4* prefixes4;
  size_t prefix4_count;
  const CapturePrefix6* prefixes6;
  size_t prefix6_count;
  uint32_t destinations;  // how many aliases there are; a power of two
  uint64_t first;         // the number of the first alias
  std::string pin;        // a directory of a bpffs, or empty
  std::string token;      // a bpffs with rights delegated, or empty
};

struct CaptureCounts {
  uint64_t captured;
  uint64_t exempt;
  uint64_t refused;
  uint64_t exhausted;
  uint64_t lost;
  uint64_t aliases;  // given out
};

class Capture {
 public:
  // Returns 0, or -errno and what has failed. -EBUSY: other programs run at connect(2) in this
  // cgroup. What was attached by then is detached again when this object ends, unless it is pinned.
  int open(const CaptureOptions& options, BpfFailure* failure);
  // Nothing is captured from now on; what was can still be told. `unpin`: else a pinned capture
  // goes on without this process.
  void detach(bool unpin);
  AliasTable* table() { return &table_; }
  // The program for UDP sockets at that port of which it is told what came to aliases; -1: none.
  int filter(uint16_t port) const { return table_.port() == port ? filter_.get() : -1; }
  CaptureCounts counts() const;

 private:
  void unpin();

  static constexpr size_t kMaps = sizeof(kCaptureMaps) / sizeof(kCaptureMaps[0]);
  static constexpr size_t kMostLinks = 10;

  int make_maps(const CaptureOptions& options, BpfFailure* failure);
  int fill_maps(const CaptureOptions& options, BpfFailure* failure);
  int adopt_links(const CaptureOptions& options, BpfFailure* failure);
  int check_alone(const CaptureOptions& options, BpfFailure* failure) const;
  int attach(const CaptureOptions& options, BpfFailure* failure);
  std::string pin_of(const char* kind, const char* name) const;

  std::string pin_;
  OwnedFd token_;
  OwnedFd maps_[kMaps];
  OwnedFd links_[kMostLinks];
  OwnedFd filter_;
  uint32_t adopted_[kMostLinks] = {};  // the programs that the pinned links had
  uint64_t first_ = 0;
  AliasTable table_;
  MappedMap counters_;
  MappedMap ring_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_CAPTURE_H_
