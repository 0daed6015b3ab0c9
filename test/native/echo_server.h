// What accept_test's clients dial: an echo server on a thread that has other things to do besides.
#ifndef ORIGINAL_DST_TEST_ECHO_SERVER_H_
#define ORIGINAL_DST_TEST_ECHO_SERVER_H_

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

#include "socket/owned_fd.h"

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "%s (errno %s)\n", what, strerror(errno));
  exit(1);
}

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline original_dst::OwnedFd listening(uint16_t port) {
  original_dst::OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const sockaddr_in address = loopback(port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd.get(), 128) != 0) {
    fail("listen");
  }
  return fd;
}

// The server's side of everything: each connection is echoed until its end.
class EchoServer {
 public:
  explicit EchoServer(uint16_t port) : listener_(listening(port)) {}

  void serve() {
    for (;;) {
      original_dst::OwnedFd fd(
          accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) break;
      accepted_++;
      open_.push_back(std::move(fd));
    }
    for (size_t i = 0; i < open_.size();) {
      char buffer[256];
      const ssize_t n = recv(open_[i].get(), buffer, sizeof(buffer), 0);
      if (n > 0) send(open_[i].get(), buffer, static_cast<size_t>(n), MSG_NOSIGNAL);
      const bool over = n == 0 || (n < 0 && errno != EAGAIN);
      if (over) {
        open_[i] = std::move(open_.back());
        open_.pop_back();
      } else {
        i++;
      }
    }
  }

  size_t open() const { return open_.size(); }
  uint64_t accepted() const { return accepted_; }

 private:
  original_dst::OwnedFd listener_;
  std::vector<original_dst::OwnedFd> open_;
  uint64_t accepted_ = 0;
};

#endif  // ORIGINAL_DST_TEST_ECHO_SERVER_H_
