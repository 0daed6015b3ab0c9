// TCP sockets of another network namespace, ready to be bound and connected.
#ifndef ORIGINAL_DST_NAMESPACE_SOCKET_SUPPLY_H_
#define ORIGINAL_DST_NAMESPACE_SOCKET_SUPPLY_H_

#include <pthread.h>

#include "socket/owned_fd.h"

namespace original_dst {

// A socket stays in the namespace that it was opened in, whoever binds and connects it: only
// socket(2) has to be called in there, and a few at a time, since going there takes as long as a
// handful of system calls. For any thread.
class SocketSupply {
 public:
  // `net`: a descriptor of the namespace, which is duplicated. `batch`: how many are opened at
  // once.
  explicit SocketSupply(int net, int batch = kMost);
  SocketSupply(const SocketSupply&) = delete;
  SocketSupply& operator=(const SocketSupply&) = delete;

  // A non-blocking one of AF_INET or AF_INET6. Returns 0 or -errno.
  int take(int domain, OwnedFd* socket);

 private:
  friend class SuppliedFrom;
  ~SocketSupply() = default;

  static constexpr int kMost = 8;
  struct Shelf {
    OwnedFd sockets[kMost];
    int count = 0;
  };
  int fill(int domain, Shelf* shelf);

  const OwnedFd net_;
  const int batch_;
  int users_ = 0;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  Shelf v4_;
  Shelf v6_;
};

// One of the users of a supply, which goes with the last of them; or of none: then sockets are
// opened in the calling thread's namespace.
class SuppliedFrom {
 public:
  SuppliedFrom() = default;
  explicit SuppliedFrom(SocketSupply* supply) : supply_(supply) { join(); }
  SuppliedFrom(const SuppliedFrom& other) : supply_(other.supply_) { join(); }
  SuppliedFrom& operator=(const SuppliedFrom& other);
  ~SuppliedFrom() { leave(); }

  // As SocketSupply::take().
  int take(int domain, OwnedFd* socket) const;

 private:
  void join() const;
  void leave() const;

  SocketSupply* supply_ = nullptr;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMESPACE_SOCKET_SUPPLY_H_
