#include "relay/admissions.h"

#include <stdlib.h>

#include <algorithm>

#include "socket/mutex.h"

namespace original_dst {

namespace {

constexpr size_t kFirstSize = 64;
constexpr double kSecondMs = 1000;

// What tells clients apart; 0: nothing is known of it. Whoever has one address of IPv6 has 2^64 of
// them. The first half of one looks like an address of IPv4 in ::/32 alone, where nobody lives but
// ::1.
uint64_t key_of(const Endpoint& peer) {
  if (peer.family == 0) return 0;
  uint64_t key = 0;
  for (int i = 0; i < (peer.family == 6 ? 8 : 4); i++) key = key << 8 | peer.bytes[i];
  return key == 0 ? 1 : key;
}

// From a start that nobody outside knows: the memory's own address.
size_t hash(uint64_t key, const void* table) {
  uint64_t value = (key ^ reinterpret_cast<uintptr_t>(table)) * 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 29)) * 0xbf58476d1ce4e5b9U;
  return static_cast<size_t>(value ^ (value >> 32));
}

}  // namespace

Admission& Admission::operator=(Admission&& other) noexcept {
  if (this == &other) return *this;
  release();
  owner_ = other.owner_;
  client_ = other.client_;
  pending_ = other.pending_;
  other.owner_ = nullptr;
  return *this;
}

bool Admission::wait() {
  if (owner_ == nullptr || pending_) return true;
  const Locked locked(&owner_->mutex_);
  const uint32_t most = owner_->limits_.pending;
  if (most != 0 && owner_->pending_ >= most) return false;
  owner_->pending_++;
  pending_ = true;
  return true;
}

void Admission::decided() {
  if (owner_ == nullptr || !pending_) return;
  const Locked locked(&owner_->mutex_);
  owner_->pending_--;
  pending_ = false;
}

void Admission::release() {
  if (owner_ == nullptr) return;
  if (owner_->drop(*this)) delete owner_;
  owner_ = nullptr;
}

Admissions* Admissions::create(const AdmissionLimits& limits) { return new Admissions(limits); }

Admissions::~Admissions() { free(clients_); }

void Admissions::unref() {
  bool last = false;
  {
    const Locked locked(&mutex_);
    last = --references_ == 0;
  }
  if (last) delete this;
}

bool Admissions::drop(const Admission& one) {
  const Locked locked(&mutex_);
  open_--;
  if (one.pending_) pending_--;
  // It has a place for as long as it is open.
  if (counts(one.client_)) find(one.client_)->open--;
  return --references_ == 0;
}

bool Admissions::idle(const Client& client, uint64_t now_ms) const {
  return client.open == 0 && client.due_ms <= static_cast<double>(now_ms);
}

bool Admissions::counts(uint64_t client) const {
  return client != 0 && (limits_.per_client != 0 || limits_.rate_per_client != 0);
}

Admissions::Client* Admissions::find(uint64_t key) {
  for (size_t at = hash(key, clients_);; at++) {
    Client& client = clients_[at & (size_ - 1)];
    if (client.key == 0 || client.key == key) return &client;
  }
}

// A third stays free, so that every search ends soon. Moves to a table for twice as many as are not
// idle.
bool Admissions::make_room(uint64_t now_ms) {
  if ((used_ + 1) * 3 <= size_ * 2) return true;
  size_t kept = 0;
  for (size_t i = 0; i < size_; i++) {
    if (clients_[i].key != 0 && !idle(clients_[i], now_ms)) kept++;
  }
  size_t size = kFirstSize;
  while (size < kept * 3) size *= 2;
  auto* const table = static_cast<Client*>(malloc(size * sizeof(Client)));
  if (table == nullptr) return false;
  std::fill(table, table + size, Client());
  for (size_t i = 0; i < size_; i++) {
    const Client& client = clients_[i];
    if (client.key == 0 || idle(client, now_ms)) continue;
    size_t at = hash(client.key, table);
    while (table[at & (size - 1)].key != 0) at++;
    table[at & (size - 1)] = client;
  }
  free(clients_);
  clients_ = table;
  size_ = size;
  used_ = kept;
  return true;
}

Admitted Admissions::admit(const Endpoint& client, uint64_t now_ms, Admission* to) {
  const uint64_t key = key_of(client);
  const Locked locked(&mutex_);
  if (limits_.connections != 0 && open_ >= limits_.connections) return kTooMany;
  if (counts(key)) {
    if (!make_room(now_ms)) return kTooMany;
    Client* const its = find(key);
    if (limits_.per_client != 0 && its->open >= limits_.per_client) return kTooManyOfClient;
    const auto now = static_cast<double>(now_ms);
    if (limits_.rate_per_client != 0) {
      const double interval = kSecondMs / limits_.rate_per_client;
      const double due = std::max(its->due_ms, now);
      if (due - now > kSecondMs - interval) return kTooFast;
      its->due_ms = due + interval;
    }
    if (its->key == 0) used_++;
    its->key = key;
    its->open++;
  }
  open_++;
  references_++;
  to->owner_ = this;
  to->client_ = key;
  return kYes;
}

}  // namespace original_dst
