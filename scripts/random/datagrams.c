// datagrams KEY=VALUE...   datagrams at random: see routes.h for the arguments. It opens its
// ctnetlink socket where it is started, then enters `namespace`.
//
// All leave from a few fixed ports, in bursts, each to a destination of its own, which it names
// (token.h). Before some of them the conntrack entry of their flow is deleted. Answers are thrown
// away.
//
// Prints `done {…}` at the end.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack.h"
#include "routes.h"
#include "token.h"

enum { kMaxPorts = 64, kMaxKinds = 64 };

static struct lane lane;
static long begun[kMaxKinds], failed;

static int open_at(int family, const uint8_t *source, uint16_t port) {
  struct sockaddr_storage name;
  const socklen_t length = to_sockaddr(family, source, port, &name);
  const int fd = socket(name.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (const struct sockaddr *)&name, length) != 0) {
    perror("bind");
    exit(1);
  }
  return fd;
}

static void drain(int fd) {
  char answer[2048];
  while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) >= 0) continue;
}

int main(int argc, char **argv) {
  const char *const namespace = parse_lane(argc, argv, &lane);
  if (namespace == NULL || lane.ports > kMaxPorts || lane.route_count == 0 || lane.pause < 1)
    return 2;
  const int conntrack = conntrack_open();
  enter_namespace(namespace);
  int v4[kMaxPorts], v6[kMaxPorts];
  for (int i = 0; i < lane.ports; i++) {
    v4[i] = open_at(4, lane.source4, (uint16_t)(lane.first_port + i));
    v6[i] = open_at(6, lane.source6, (uint16_t)(lane.first_port + i));
  }
  for (int sent = 0; sent < lane.count;) {
    for (uint32_t burst = 1 + random_below(&lane.random, (uint32_t)lane.at_once);
         burst > 0 && sent < lane.count; burst--) {
      const int index = (int)random_below(&lane.random, (uint32_t)lane.ports);
      struct token token;
      choose_destination(&lane, choose_route(&lane), (uint16_t)(lane.first_port + index), &token);
      token.sequence = (uint32_t)sent++;
      token.started = now_ns();
      // The next datagrams of the flow suffer for it too.
      if (lane.loss > 0) token.flags |= kPlansLoss;
      if ((int)random_below(&lane.random, 100) < lane.loss) {
        conntrack_forget(conntrack, IPPROTO_UDP, &token);
      }
      const int fd = token.family == 4 ? v4[index] : v6[index];
      struct sockaddr_storage name;
      const socklen_t length = to_sockaddr(token.family, token.address, token.port, &name);
      drain(fd);
      begun[token.kind]++;
      if (sendto(fd, &token, sizeof(token), 0, (const struct sockaddr *)&name, length) < 0)
        failed++;
    }
    usleep(random_below(&lane.random, (uint32_t)lane.pause));
  }
  printf("done {\"failed\":%ld,\"kinds\":{", failed);
  const char *comma = "";
  for (int kind = 0; kind < kMaxKinds; kind++) {
    if (begun[kind] == 0) continue;
    printf("%s\"%d\":{\"begun\":%ld}", comma, kind, begun[kind]);
    comma = ",";
  }
  puts("}}");
  return 0;
}
