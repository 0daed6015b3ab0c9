// Node-API glue of lib/ebpf/: captures and listeners of BPF programs.
#ifndef ORIGINAL_DST_GLUE_EBPF_GLUE_H_
#define ORIGINAL_DST_GLUE_EBPF_GLUE_H_

#include <napi.h>
#include <stddef.h>

#include <memory>

#include "ebpf/alias_table.h"
#include "ebpf/capture.h"
#include "ebpf/port_listener.h"

namespace original_dst {

// All captures of one environment. Must outlive its last call and every thread that accepts.
class EbpfGlue {
 public:
  void init(Napi::Env env, Napi::Object exports);
  AliasTables* aliases() { return &aliases_; }

 private:
  static Napi::Value CaptureOpen(const Napi::CallbackInfo& info);
  static Napi::Value CaptureFilter(const Napi::CallbackInfo& info);
  static Napi::Value CaptureCounts(const Napi::CallbackInfo& info);
  static Napi::Value CaptureDetach(const Napi::CallbackInfo& info);
  static Napi::Value CaptureClose(const Napi::CallbackInfo& info);
  static Napi::Value ListenerOpen(const Napi::CallbackInfo& info);
  static Napi::Value ListenerCount(const Napi::CallbackInfo& info);
  static Napi::Value ListenerClose(const Napi::CallbackInfo& info);

  static constexpr size_t kMost = 16;
  AliasTables aliases_;
  std::unique_ptr<Capture> captures_[kMost];
  std::unique_ptr<PortListener> listeners_[kMost];
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_EBPF_GLUE_H_
