#include "namespace/socket_supply.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "namespace/inside.h"
#include "socket/mutex.h"

namespace original_dst {

namespace {

int open_tcp(int domain, OwnedFd* opened) {
  opened->reset(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return opened->valid() ? 0 : -errno;
}

}  // namespace

SocketSupply::SocketSupply(int net, int batch)
    : net_(fcntl(net, F_DUPFD_CLOEXEC, 0)), batch_(batch) {}

int SocketSupply::fill(int domain, Shelf* shelf) {
  int error = 0;
  auto open_all = [&] {
    while (shelf->count < batch_ && error == 0) {
      error = open_tcp(domain, &shelf->sockets[shelf->count]);
      if (error == 0) shelf->count++;
    }
  };
  using Call = decltype(open_all);
  const int status = call_inside(
      net_.get(), [](void* call) { (*static_cast<Call*>(call))(); }, &open_all);
  return status != 0 ? status : error;
}

int SocketSupply::take(int domain, OwnedFd* socket) {
  const Locked locked(&mutex_);
  Shelf* const shelf = domain == AF_INET ? &v4_ : &v6_;
  const int status = shelf->count > 0 ? 0 : fill(domain, shelf);
  // One will do, if there are no descriptors for more.
  if (shelf->count == 0) return status;
  *socket = std::move(shelf->sockets[--shelf->count]);
  return 0;
}

SuppliedFrom& SuppliedFrom::operator=(const SuppliedFrom& other) {
  if (this == &other) return *this;
  other.join();
  leave();
  supply_ = other.supply_;
  return *this;
}

int SuppliedFrom::take(int domain, OwnedFd* socket) const {
  return supply_ == nullptr ? open_tcp(domain, socket) : supply_->take(domain, socket);
}

void SuppliedFrom::join() const {
  if (supply_ != nullptr) __atomic_add_fetch(&supply_->users_, 1, __ATOMIC_RELAXED);
}

void SuppliedFrom::leave() const {
  if (supply_ == nullptr) return;
  if (__atomic_sub_fetch(&supply_->users_, 1, __ATOMIC_ACQ_REL) == 0) delete supply_;
}

}  // namespace original_dst
