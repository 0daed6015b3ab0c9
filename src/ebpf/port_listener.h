// sk_lookup: whatever is delivered to this network namespace at certain ports comes to one socket.
#ifndef ORIGINAL_DST_EBPF_PORT_LISTENER_H_
#define ORIGINAL_DST_EBPF_PORT_LISTENER_H_

#include <stddef.h>
#include <stdint.h>

#include "ebpf/bpf.h"
#include "ebpf/capture.h"
#include "ebpf/programs.h"
#include "ebpf/programs/listener.h"
#include "socket/owned_fd.h"

namespace original_dst {

struct PortListenerOptions {
  const uint16_t* ports;
  size_t port_count;
  const CapturePrefix4* prefixes4;
  size_t prefix4_count;
  const CapturePrefix6* prefixes6;
  size_t prefix6_count;
  std::string token;              // a bpffs with rights delegated, or empty
  int sockets[kListenerSockets];  // or -1: that protocol and family is left alone
};

class PortListener {
 public:
  // For this thread's network namespace, as long as this object lives. Returns 0, or -errno and
  // what has failed.
  int open(const PortListenerOptions& options, BpfFailure* failure);
  uint64_t count() const { return *static_cast<const uint64_t*>(led_.memory()); }

 private:
  static constexpr size_t kMaps = sizeof(kListenerMaps) / sizeof(kListenerMaps[0]);

  OwnedFd maps_[kMaps];
  OwnedFd link_;
  MappedMap led_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_PORT_LISTENER_H_
