// What the listeners of one server have in common, each of which is another thread's.
#ifndef ORIGINAL_DST_RELAY_LISTENER_GROUP_H_
#define ORIGINAL_DST_RELAY_LISTENER_GROUP_H_

#include <stdint.h>

#include "relay/admissions.h"
#include "relay/verdicts.h"

namespace original_dst {

// Counted by reference: by every listener of it. May be used from several threads.
class ListenerGroup {
 public:
  // `reuse_port`: the socket was opened with SO_REUSEPORT, and others may have its port.
  ListenerGroup(const AdmissionLimits& limits, bool reuse_port)
      : admissions(limits.any() ? Admissions::create(limits) : nullptr), reuse_port(reuse_port) {}
  ListenerGroup(const ListenerGroup&) = delete;
  ListenerGroup& operator=(const ListenerGroup&) = delete;

  ListenerGroup* ref() {
    __atomic_add_fetch(&references_, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&listening_, 1, __ATOMIC_RELAXED);
    return this;
  }
  void unref() {
    if (__atomic_sub_fetch(&references_, 1, __ATOMIC_ACQ_REL) == 0) delete this;
  }
  // One of them is about to close its socket. Returns whether it is the last.
  bool stops_listening() { return __atomic_sub_fetch(&listening_, 1, __ATOMIC_ACQ_REL) == 0; }

  Verdicts verdicts;
  Admissions* const admissions;  // null: there are no limits
  const bool reuse_port;

 private:
  ~ListenerGroup() {
    if (admissions != nullptr) admissions->unref();
  }

  uint32_t references_ = 1;
  uint32_t listening_ = 1;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_LISTENER_GROUP_H_
