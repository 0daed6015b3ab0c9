// The first bytes of every connection and each datagram: where the client really sent it, and what
// it means to do. Read by judge.ts too.
#ifndef RANDOM_TOKEN_H_
#define RANDOM_TOKEN_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum {
  kMagic = 0x5444534f,
  kPlansReset = 1,  // the client resets it without waiting for an answer
  kPlansLoss = 2,   // the client has its conntrack entry deleted
  kAmidFlush = 4,   // all entries are deleted now and then, or rules come and go
};

struct token {
  uint32_t magic;
  uint16_t kind;
  uint16_t flags;
  uint16_t family;  // 4 or 6
  uint16_t port;
  uint16_t source_port;
  uint16_t lane;
  uint32_t sequence;
  uint32_t spare;
  uint64_t started;  // CLOCK_MONOTONIC, ns
  uint8_t address[16];
  uint8_t source[16];
};
_Static_assert(sizeof(struct token) == 64, "as judge.ts reads it");

static inline uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// xorshift64*
static inline uint32_t random_below(uint64_t *state, uint32_t limit) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (uint32_t)((*state * 2685821657736338717ULL) >> 32) % limit;
}

// Seeds that differ by one must not begin alike; 0 would stay 0.
static inline uint64_t random_state(uint64_t seed) {
  seed = (seed + 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;
  return (seed ^ (seed >> 31)) | 1;
}

static inline socklen_t to_sockaddr(int family, const uint8_t *address, uint16_t port,
                                    struct sockaddr_storage *to) {
  memset(to, 0, sizeof(*to));
  if (family == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)to;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address, 4);
    return sizeof(*in);
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(port);
  memcpy(&in6->sin6_addr, address, 16);
  return sizeof(*in6);
}

// IPv4 that an IPv6 socket shows as ::ffff:0:0/96 is IPv4.
static inline void from_sockaddr(const struct sockaddr_storage *from, uint16_t *family,
                                 uint8_t *address, uint16_t *port) {
  memset(address, 0, 16);
  if (from->ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)from;
    *family = 4;
    *port = ntohs(in->sin_port);
    memcpy(address, &in->sin_addr, 4);
    return;
  }
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
  *port = ntohs(in6->sin6_port);
  *family = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 4 : 6;
  memcpy(address, in6->sin6_addr.s6_addr + (*family == 4 ? 12 : 0), *family == 4 ? 4 : 16);
}

static inline const char *address_text(int family, const uint8_t *address) {
  static char texts[4][INET6_ADDRSTRLEN];
  static int next;
  next = (next + 1) % 4;
  inet_ntop(family == 4 ? AF_INET : AF_INET6, address, texts[next], INET6_ADDRSTRLEN);
  return texts[next];
}

#endif  // RANDOM_TOKEN_H_
