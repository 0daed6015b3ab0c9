// What the clients have in common: their arguments, and the namespace that they send from.
#ifndef RANDOM_ROUTES_H_
#define RANDOM_ROUTES_H_

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "token.h"

enum { kMaxRoutes = 16 };

// One kind of destination: `count` addresses from `address` on, and one or two ports.
struct route {
  uint16_t kind;
  uint16_t family;
  uint8_t address[16];
  int count;
  uint16_t ports[2];
};

struct lane {
  uint16_t number;
  uint64_t random;
  int count;    // connections or datagrams
  int at_once;  // of them
  uint16_t first_port;
  int ports;
  int early;     // percent that are reset without waiting for an answer
  int loss;      // percent whose conntrack entry is deleted
  int patience;  // how long to wait for an answer, milliseconds
  int pause;     // the longest between bursts of datagrams, microseconds
  bool amid_flush;
  uint8_t source4[16];
  uint8_t source6[16];
  struct route routes[kMaxRoutes];
  int route_count;
};

static inline void parse_route(struct lane *lane, char *text) {
  if (lane->route_count == kMaxRoutes) exit(2);
  struct route *const route = &lane->routes[lane->route_count++];
  char address[INET6_ADDRSTRLEN];
  unsigned kind, family, first, second;
  if (sscanf(text, "%u,%u,%45[^,],%d,%u,%u", &kind, &family, address, &route->count, &first,
             &second) != 6 ||
      inet_pton(family == 4 ? AF_INET : AF_INET6, address, route->address) != 1) {
    fprintf(stderr, "not a route: %s\n", text);
    exit(2);
  }
  route->kind = (uint16_t)kind;
  route->family = (uint16_t)family;
  route->ports[0] = (uint16_t)first;
  route->ports[1] = (uint16_t)second;
}

static inline void enter_namespace(const char *path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
    perror(path);
    exit(1);
  }
  close(fd);
}

// KEY=VALUE arguments. `namespace` is returned, to be entered when the caller is done in this one.
static inline const char *parse_lane(int argc, char **argv, struct lane *lane) {
  const char *namespace = NULL;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int i = 1; i < argc; i++) {
    char *const key = argv[i];
    char *const value = strchr(key, '=');
    if (value == NULL) exit(2);
    *value = '\0';
    char *const text = value + 1;
    if (strcmp(key, "namespace") == 0)
    namespace = text;
    else if (strcmp(key, "lane") == 0) lane->number = (uint16_t)atoi(text);
    else if (strcmp(key, "seed") == 0) lane->random = random_state(strtoull(text, NULL, 10));
    else if (strcmp(key, "count") == 0) lane->count = atoi(text);
    else if (strcmp(key, "at-once") == 0) lane->at_once = atoi(text);
    else if (strcmp(key, "first-port") == 0) lane->first_port = (uint16_t)atoi(text);
    else if (strcmp(key, "ports") == 0) lane->ports = atoi(text);
    else if (strcmp(key, "early") == 0) lane->early = atoi(text);
    else if (strcmp(key, "loss") == 0) lane->loss = atoi(text);
    else if (strcmp(key, "patience") == 0) lane->patience = atoi(text);
    else if (strcmp(key, "pause") == 0) lane->pause = atoi(text);
    else if (strcmp(key, "amid-flush") == 0) lane->amid_flush = atoi(text) != 0;
    else if (strcmp(key, "source4") == 0) inet_pton(AF_INET, text, lane->source4);
    else if (strcmp(key, "source6") == 0) inet_pton(AF_INET6, text, lane->source6);
    else if (strcmp(key, "route") == 0) parse_route(lane, text);
    else exit(2);
  }
  return namespace;
}

static inline const struct route *choose_route(struct lane *lane) {
  return &lane->routes[random_below(&lane->random, (uint32_t)lane->route_count)];
}

// One of the route's destinations, from a source port of the lane's.
static inline void choose_destination(struct lane *lane, const struct route *route,
                                      uint16_t source_port, struct token *token) {
  memset(token, 0, sizeof(*token));
  token->magic = kMagic;
  token->kind = route->kind;
  token->family = route->family;
  token->lane = lane->number;
  token->source_port = source_port;
  token->port = route->ports[random_below(&lane->random, 2)];
  memcpy(token->address, route->address, 16);
  token->address[route->family == 4 ? 3 : 15] +=
      (uint8_t)random_below(&lane->random, (uint32_t)route->count);
  memcpy(token->source, route->family == 4 ? lane->source4 : lane->source6, 16);
  if (lane->amid_flush) token->flags |= kAmidFlush;
}

#endif  // RANDOM_ROUTES_H_
