// The part of a relay thread that measures, and keeps a record of each connection where somebody
// wants to know.
#include <utility>

#include "relay/counter.h"
#include "relay/inspect.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/mutex.h"

namespace original_dst {

namespace {

// The other thread wakes once for so many records, or for those of so long.
constexpr size_t kBatch = 256;
constexpr uint64_t kBatchMs = 100;
// That wait to be taken. A program that is busy elsewhere loses records, not memory.
constexpr size_t kMostReady = 4096;

}  // namespace

std::unique_ptr<Record> RelayThread::record_of(RelayListener* listener, const Facts& facts,
                                               const Endpoint* destination, const Seen* seen) {
  if (!listener->recorded()) return nullptr;
  auto one = std::make_unique<Record>();
  one->listener = listener;
  one->accepted_us = seen == nullptr ? now_us_ : seen->accepted_us;
  one->client = client_of(facts, seen);
  if (destination != nullptr) {
    one->destination = *destination;
    one->kind = is_proxied(seen)           ? Record::kProxied
                : facts.capture_status > 0 ? Record::kCaptured
                                           : Record::kRedirect;
  }
  if (seen != nullptr && seen->looked) one->set_name(seen->first);
  return one;
}

void RelayThread::record_refusal(RelayListener* listener, const Facts& facts,
                                 const Endpoint* destination, const Seen* seen, uint8_t outcome,
                                 int error) {
  std::unique_ptr<Record> one = record_of(listener, facts, destination, seen);
  if (one == nullptr) return;
  one->outcome = outcome;
  one->error = error;
  add_record(std::move(one));
}

// That it is sent RST: because it was decided so, or because the dial failed at once.
void RelayThread::record_verdict(std::unique_ptr<Record> one, const Handled& handled) {
  if (one == nullptr) return;
  if (handled.tproxy) one->kind = Record::kTproxy;
  one->verdict = kResetIt;
  one->outcome = Record::kByVerdict;
  if (handled.error != 0) {
    one->verdict = kRelayIt;
    one->outcome = kRelayError;
    one->side = kUpstream;
  }
  one->error = handled.error;
  add_record(std::move(one));
}

void RelayThread::record_end(Relay* relay, RelayReason reason, RelaySide side, int error) {
  ListenerStats* const stats = relay->listener->stats;
  if (relay->dial_us >= 0)
    observe(&stats->dial, kDialBounds, static_cast<uint64_t>(relay->dial_us));
  observe(&stats->duration, kDurationBounds, now_us_ - relay->began_us);
  if (relay->record == nullptr) return;
  std::unique_ptr<Record> one = std::move(relay->record);
  one->verdict = kRelayIt;
  one->outcome = reason;
  if (relay->onward != nullptr && relay->onward->is_over() &&
      relay->onward->failures.back().step == kHandshake) {
    one->outcome = Record::kByNoProxy;
  }
  one->side = side;
  one->error = error;
  one->dial_us = static_cast<double>(relay->dial_us);
  one->to_upstream = relay->flows[kClient].moved();
  one->to_client = relay->flows[kUpstream].moved();
  add_record(std::move(one));
}

void RelayThread::add_record(std::unique_ptr<Record> one) {
  one->over_us = now_us_;
  if (records_.count() == 0) records_due_ = now_ + kBatchMs;
  records_.add(std::move(one));
  if (records_.count() >= kBatch) hand_up_records();
}

void RelayThread::hand_up_records() {
  records_due_ = UINT64_MAX;
  if (records_.count() == 0) return;
  {
    const Locked locked(&mutex_);
    if (ready_records_.count() < kMostReady) ready_records_.take(&records_);
  }
  news_ = true;
  while (const std::unique_ptr<Record> lost = records_.shift()) {
    add_to(&lost->listener->stats->records_dropped, 1);
  }
}

void RelayThread::take_records(Records* to) {
  const Locked locked(&mutex_);
  to->take(&ready_records_);
}

}  // namespace original_dst
