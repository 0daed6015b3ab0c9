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
      : reuse_port(reuse_port), admissions_(limits.any() ? Admissions::create(limits) : nullptr) {}
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
  // Is there room for one more connection of the listeners?
  Admitted admit(const Endpoint& peer, uint64_t now_ms, Admission* admission) {
    return admissions_ == nullptr ? kYes : admissions_->admit(peer, now_ms, admission);
  }
  // One of them is about to close its socket. Returns whether it is the last.
  bool stops_listening() { return __atomic_sub_fetch(&listening_, 1, __ATOMIC_ACQ_REL) == 0; }

  Verdicts verdicts;
  const bool reuse_port;

 private:
  ~ListenerGroup() {
    if (admissions_ != nullptr) admissions_->unref();
  }

  Admissions* const admissions_;  // null: there are no limits
  uint32_t references_ = 1;
  uint32_t listening_ = 1;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_LISTENER_GROUP_H_
