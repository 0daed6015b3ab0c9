// far PATH FORBIDDEN_FROM FORBIDDEN_TO CHANGING_FROM CHANGING_TO PORT...   the far end of what a
// proxy relays, in the network namespace at PATH, at every address there is. It compares where it
// was reached with the token that comes first, and sends the token back.
//
// Addresses whose last byte is in the FORBIDDEN range are those that the proxy's policy never
// allows; of those in the CHANGING range it tells when the client set out (`changing`), for the
// policy to be compared.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "routes.h"
#include "token.h"

enum { kMaxKinds = 64, kMaxFds = 65536, kEvents = 256 };

struct connection {
  struct token token;
  size_t length;
  bool listens;
};

static struct connection *connections;
static long right[kMaxKinds], wrong[kMaxKinds], silent;
static int forbidden_from, forbidden_to, changing_from, changing_to;

static int last_byte(uint16_t family, const uint8_t *address) {
  return address[family == 4 ? 3 : 15];
}

static void judge(int fd, const struct token *token) {
  struct sockaddr_storage local;
  socklen_t length = sizeof(local);
  uint16_t family = 0, port = 0;
  uint8_t address[16] = {0};
  if (getsockname(fd, (struct sockaddr *)&local, &length) == 0) {
    from_sockaddr(&local, &family, address, &port);
  }
  const int last = last_byte(family, address);
  const bool forbidden = last >= forbidden_from && last <= forbidden_to;
  const bool known = token->magic == kMagic && token->kind < kMaxKinds;
  const size_t size = family == 4 ? 4 : 16;
  if (known && !forbidden && family == token->family && port == token->port &&
      memcmp(address, token->address, size) == 0) {
    right[token->kind]++;
    if (last >= changing_from && last <= changing_to) {
      printf("changing %s %u %llu %llu\n", address_text(family, address), port,
             (unsigned long long)token->started, (unsigned long long)now_ns());
      fflush(stdout);
    }
    return;
  }
  if (known) wrong[token->kind]++;
  printf(
      "wrong {\"kind\":%u,\"lane\":%u,\"sourcePort\":%u,\"sequence\":%u,\"flags\":%u,"
      "\"truth\":\"%s %u\",\"found\":\"relayed to %s %u%s\"}\n",
      token->kind, token->lane, token->source_port, token->sequence, token->flags,
      address_text(token->family, token->address), token->port, address_text(family, address), port,
      forbidden ? " (forbidden)" : "");
  fflush(stdout);
}

static void take(int epoll, int listener) {
  for (;;) {
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (fd >= kMaxFds) {
      close(fd);
      continue;
    }
    connections[fd] = (struct connection){0};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static void serve(int fd) {
  struct connection *const one = &connections[fd];
  const ssize_t count =
      read(fd, (char *)&one->token + one->length, sizeof(one->token) - one->length);
  if (count < 0 && errno == EAGAIN) return;
  if (count > 0) {
    one->length += (size_t)count;
    if (one->length < sizeof(one->token)) return;
    judge(fd, &one->token);
    send(fd, &one->token, sizeof(one->token), MSG_NOSIGNAL);
  } else {
    silent++;
  }
  close(fd);
}

static int listen_at(uint16_t port) {
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, (const struct sockaddr *)&name, sizeof(name)) != 0 || listen(fd, 4096) != 0) {
    perror("listen");
    exit(1);
  }
  return fd;
}

int main(int argc, char **argv) {
  if (argc < 7) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  enter_namespace(argv[1]);
  forbidden_from = atoi(argv[2]);
  forbidden_to = atoi(argv[3]);
  changing_from = atoi(argv[4]);
  changing_to = atoi(argv[5]);
  connections = calloc(kMaxFds, sizeof(*connections));
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 6; i < argc; i++) {
    const int fd = listen_at((uint16_t)atoi(argv[i]));
    connections[fd].listens = true;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
  struct epoll_event end = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &end);
  puts("ready");
  fflush(stdout);

  for (bool running = true; running;) {
    struct epoll_event events[kEvents];
    const int count = epoll_wait(epoll, events, kEvents, -1);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == STDIN_FILENO)
        running = false;
      else if (connections[fd].listens)
        take(epoll, fd);
      else
        serve(fd);
    }
  }
  printf("done {\"silent\":%ld,\"kinds\":{", silent);
  const char *comma = "";
  for (int kind = 0; kind < kMaxKinds; kind++) {
    if (right[kind] == 0 && wrong[kind] == 0) continue;
    printf("%s\"%d\":{\"right\":%ld,\"wrong\":%ld}", comma, kind, right[kind], wrong[kind]);
    comma = ",";
  }
  puts("}}");
  return 0;
}
