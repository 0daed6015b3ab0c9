// Connections that TypeScript is deciding about, by token.
#ifndef ORIGINAL_DST_GLUE_UNDECIDED_H_
#define ORIGINAL_DST_GLUE_UNDECIDED_H_

#include <errno.h>
#include <stdint.h>

#include <memory>
#include <utility>
#include <vector>

#include "relay/listener.h"
#include "relay/thread.h"

namespace original_dst {

class UndecidedConnections {
 public:
  uint32_t put(std::unique_ptr<News> one) {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(places_.size()));
      places_.emplace_back();
    }
    const uint32_t token = free_.back();
    free_.pop_back();
    places_[token].connection = std::move(one);
    return token;
  }

  // Null for a token that is nobody's.
  const News* find(uint32_t token) const {
    return has(token) ? places_[token].connection.get() : nullptr;
  }

  // From here on the thread reports when the connection is gone. Returns 0 or -errno.
  int watch(uint32_t token, RelayThread* thread) {
    if (!has(token)) return -EINVAL;
    Place& place = places_[token];
    place.watched_by = thread;
    const uint64_t tag = (uint64_t{++place.watches} << 32 | token) & kTagBits;
    return thread->watch_undecided(place.connection->fd.get(), tag);
  }

  // Is the report about the connection that has the token now? It may be late.
  bool is_current(uint64_t tag, uint32_t* token) const {
    *token = static_cast<uint32_t>(tag);
    if (!has(*token) || places_[*token].watched_by == nullptr) return false;
    return tag == ((uint64_t{places_[*token].watches} << 32 | *token) & kTagBits);
  }

  // Null for a token that is nobody's.
  std::unique_ptr<News> take(uint32_t token) {
    if (!has(token)) return nullptr;
    Place& place = places_[token];
    if (place.watched_by != nullptr) {
      place.watched_by->unwatch_undecided(place.connection->fd.get());
      place.watched_by = nullptr;
    }
    free_.push_back(token);
    return std::move(place.connection);
  }

 private:
  // RelayThread has one bit of the 64 for itself.
  static constexpr uint64_t kTagBits = UINT64_MAX >> 1;
  struct Place {
    std::unique_ptr<News> connection;
    RelayThread* watched_by = nullptr;
    uint32_t watches =
        0;  // that there have been: tells a late report from one about this connection
  };

  bool has(uint32_t token) const {
    return token < places_.size() && places_[token].connection != nullptr;
  }

  std::vector<Place> places_;
  std::vector<uint32_t> free_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_UNDECIDED_H_
