// How evenly the kernel spreads connections over threads that accept, by each way of sharing a
// port:
//
//   g++ -O2 -std=c++17 -pthread bench/accept-spread.cc -o /tmp/accept-spread && /tmp/accept-spread
//
// Clients come one by one, or in bursts, and stay until the end, as relays do. Prints the share of
// each of four threads, and of the one with the most in hundredths of an even share.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace {

constexpr int kThreads = 4;
constexpr int kClients = 400;
constexpr int kWorkUs = 30;  // of each connection: a lookup, a dial

enum Mode { kReusePort, kExclusive, kExclusiveInTurns };
const char* const kNames[] = {"SO_REUSEPORT", "EPOLLEXCLUSIVE", "EPOLLEXCLUSIVE, in turns"};

sockaddr_in address = {};
std::atomic<bool> over;

struct Thread {
  int listener;
  Mode mode;
  int accepted;
  pthread_t id;
};

[[noreturn]] void fail(const char* what) {
  perror(what);
  exit(1);
}

int listening(bool reuse_port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  socklen_t size = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) fail("bind");
  if (listen(fd, 4096) != 0) fail("listen");
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return fd;
}

void work() {
  timespec began = {};
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &began);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - began.tv_sec) * 1000000 + (now.tv_nsec - began.tv_nsec) / 1000 < kWorkUs);
}

void* serve(void* argument) {
  auto* const self = static_cast<Thread*>(argument);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {};
  event.events = EPOLLIN | (self->mode == kReusePort ? 0U : static_cast<uint32_t>(EPOLLEXCLUSIVE));
  epoll_ctl(epoll, EPOLL_CTL_ADD, self->listener, &event);
  while (!over) {
    epoll_event got = {};
    if (epoll_wait(epoll, &got, 1, 20) <= 0) continue;
    while (accept4(self->listener, nullptr, nullptr, SOCK_CLOEXEC) >= 0) {
      self->accepted++;
      work();
    }
    if (self->mode != kExclusiveInTurns) continue;
    // Behind all others in the socket's queue of those to be woken.
    epoll_ctl(epoll, EPOLL_CTL_DEL, self->listener, nullptr);
    epoll_ctl(epoll, EPOLL_CTL_ADD, self->listener, &event);
  }
  close(epoll);
  return nullptr;
}

void run(Mode mode, int burst) {
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = 0;
  over = false;
  Thread threads[kThreads] = {};
  const int shared = listening(mode == kReusePort);
  for (int i = 0; i < kThreads; i++) {
    threads[i].listener = mode == kReusePort && i > 0 ? listening(true) : shared;
    threads[i].mode = mode;
    pthread_create(&threads[i].id, nullptr, serve, &threads[i]);
  }
  std::vector<int> clients;
  for (int i = 0; i < kClients; i++) {
    clients.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(clients.back(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      fail("connect");
    }
    if (i % burst == 0) usleep(2000);
  }
  usleep(100000);
  over = true;
  int most = 0;
  printf("%-25s %-9s", kNames[mode], burst == 1 ? "one by one" : "bursts");
  for (Thread& thread : threads) {
    pthread_join(thread.id, nullptr);
    most = std::max(most, thread.accepted);
    printf(" %4d", thread.accepted);
  }
  printf("   most: %.2f of an even share\n", static_cast<double>(most) * kThreads / kClients);
  for (const int fd : clients) close(fd);
  for (int fd = shared; fd <= threads[kThreads - 1].listener; fd++) close(fd);
}

}  // namespace

int main() {
  for (const int burst : {1, 50}) {
    for (const Mode mode : {kReusePort, kExclusive, kExclusiveInTurns}) run(mode, burst);
  }
  return 0;
}
