// The bare system calls that the package is measured against; each mode prints one number or serves one client.
//   bare getppid N      nanoseconds of CPU per getppid(2), which does nothing: what any system call costs here
//   bare getsockopt N   fd 3 is a connection: nanoseconds of CPU per getsockopt(SO_ORIGINAL_DST)
//   bare accept PORT    accepts and closes connections until it is killed; prints "listening"
//   bare recover PORT   the same, and asks of each what createServer() has to ask: where was it going, and is that so?
//   bare connect ADDRESS PORT N   N connections, 32 at a time, each until the server closes it: connections a second
//   bare cpu ADDRESS PORT N       the same: nanoseconds of CPU a connection
#define _GNU_SOURCE // accept4
#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kInFlight = 32, kConnection = 3 };

static double now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void die(const char *call) {
  perror(call);
  exit(1);
}

static void bare_getppid(long count) {
  const double start = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  for (long i = 0; i < count; i++) getppid();
  printf("%.1f\n", (now_ns(CLOCK_PROCESS_CPUTIME_ID) - start) / (double)count);
}

static void bare_getsockopt(long count) {
  struct sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (getsockname(kConnection, (struct sockaddr *)&address, &length) != 0) die("getsockname");
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
  const int real_v6 = address.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
  const int level = real_v6 ? SOL_IPV6 : SOL_IP;
  const int option = real_v6 ? IP6T_SO_ORIGINAL_DST : SO_ORIGINAL_DST;
  const double start = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  for (long i = 0; i < count; i++) {
    length = real_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getsockopt(kConnection, level, option, &address, &length) != 0) die("getsockopt");
  }
  printf("%.1f\n", (now_ns(CLOCK_PROCESS_CPUTIME_ID) - start) / (double)count);
}

// The system calls of read_facts() in src/socket/original_dst.cc, and nothing else.
static void recover(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) die("getsockname");
  length = sizeof(struct sockaddr_in);
  if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &address, &length) != 0) die("SO_ORIGINAL_DST");
  length = sizeof(address);
  if (getpeername(fd, (struct sockaddr *)&address, &length) != 0 && errno != ENOTCONN) die("getpeername");
  uint32_t counters[9];
  length = sizeof(counters);
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, counters, &length) != 0) die("SO_MEMINFO");
}

static void bare_accept(int port, int recovering) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0) die("bind");
  if (listen(listener, 511) != 0) die("listen");
  puts("listening");
  fflush(stdout);
  for (;;) {
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) continue;
    if (recovering) recover(fd);
    close(fd);
  }
}

static void start(struct pollfd *slot, const struct sockaddr_in *address) {
  slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  slot->events = POLLIN;
  if (slot->fd < 0) die("socket");
  // RST at the end, so that no port waits in TIME_WAIT.
  const struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(slot->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
  if (connect(slot->fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
      errno != EINPROGRESS) {
    die("connect");
  }
}

static void bare_connect(const char *host, int port, long count, int cpu) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("inet_pton");
  struct pollfd slots[kInFlight];
  long started = 0;
  long finished = 0;
  const clockid_t clock = cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
  const double begin = now_ns(clock);
  for (int i = 0; i < kInFlight; i++, started++) start(&slots[i], &address);
  while (finished < count) {
    if (poll(slots, kInFlight, 5000) <= 0) die("poll");
    for (int i = 0; i < kInFlight; i++) {
      char byte;
      if (slots[i].revents == 0 || recv(slots[i].fd, &byte, 1, 0) > 0) continue;
      close(slots[i].fd);
      finished++;
      slots[i].fd = -1;
      if (started < count) {
        start(&slots[i], &address);
        started++;
      }
    }
  }
  const double spent = now_ns(clock) - begin;
  printf("%.1f\n", cpu ? spent / (double)count : (double)count / spent * 1e9);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "getppid") == 0) {
    bare_getppid(atol(argv[2]));
  } else if (argc == 3 && strcmp(argv[1], "getsockopt") == 0) {
    bare_getsockopt(atol(argv[2]));
  } else if (argc == 3 && strcmp(argv[1], "accept") == 0) {
    bare_accept(atoi(argv[2]), 0);
  } else if (argc == 3 && strcmp(argv[1], "recover") == 0) {
    bare_accept(atoi(argv[2]), 1);
  } else if (argc == 5 && strcmp(argv[1], "connect") == 0) {
    bare_connect(argv[2], atoi(argv[3]), atol(argv[4]), 0);
  } else if (argc == 5 && strcmp(argv[1], "cpu") == 0) {
    bare_connect(argv[2], atoi(argv[3]), atol(argv[4]), 1);
  } else {
    fputs("usage: see the source\n", stderr);
    return 2;
  }
  return 0;
}
