// The other ends of bench/udp.ts.
//   udp flood ADDRESS PORT SIZE MS   as many datagrams as it can (UDP_SEGMENT: 32 a call); prints how many
//   udp paced ADDRESS PORT SIZE MS RATE   RATE datagrams a second
//   udp ping ADDRESS PORT N   N questions, one after the other; prints the median round trip in microseconds
//   udp receive   recvmmsg(2) with IP_RECVORIGDSTADDR: what udp-receiver.ts does, in C
#define _GNU_SOURCE // recvmmsg
#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kBatch = 32, kSegments = 32, kMaxSize = 1200, kReceiveBuffer = 1 << 20, kPings = 100000 };

static void die(const char *call) {
  perror(call);
  exit(1);
}

static double now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int connected(const char *address, const char *port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, address, &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) die("connect");
  return fd;
}

static void flood(int fd, int size, double ms) {
  static char data[kSegments * kMaxSize];
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)) != 0) die("UDP_SEGMENT");
  long sent = 0;
  for (const double end = now_us() + ms * 1e3; now_us() < end;) {
    if (send(fd, data, (size_t)(kSegments * size), 0) > 0) sent += kSegments;
  }
  printf("%ld\n", sent);
}

static void paced(int fd, int size, double ms, double rate) {
  static char data[kMaxSize];
  const double begin = now_us();
  long sent = 0;
  for (double now = begin; now < begin + ms * 1e3; now = now_us()) {
    for (; (double)sent < (now - begin) * rate / 1e6; sent++) send(fd, data, (size_t)size, 0);
    usleep(200);
  }
  printf("%ld\n", sent);
}

static int by_value(const void *a, const void *b) {
  const double difference = *(const double *)a - *(const double *)b;
  return difference < 0 ? -1 : difference > 0;
}

static void ping(int fd, int count) {
  static double times[kPings];
  char byte = 'p';
  for (int i = 0; i < count && i < kPings; i++) {
    const double begin = now_us();
    if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1) die("ping");
    times[i] = now_us() - begin;
  }
  qsort(times, (size_t)count, sizeof(*times), by_value);
  printf("%.1f\n", times[count / 2]);
}

static double cpu_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void receive(void) {
  static char data[kBatch][65536];
  static char control[kBatch][128];
  struct sockaddr_in sources[kBatch];
  struct iovec slots[kBatch];
  struct mmsghdr messages[kBatch];
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof(name);
  const int on = 1;
  const int room = kReceiveBuffer;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0) die("bind");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
  setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, &on, sizeof(on));
  getsockname(fd, (struct sockaddr *)&name, &length);
  printf("%d\n", ntohs(name.sin_port));
  fflush(stdout);

  long received = 0;
  unsigned long sum = 0; // of the destinations, so that they are really read
  double cpu = 0;
  struct pollfd waits[] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    if (poll(waits, 2, -1) < 0) die("poll");
    if (waits[1].revents != 0) {
      char command[16];
      if (read(STDIN_FILENO, command, sizeof(command)) <= 0) return;
      printf("{\"received\":%ld,\"cpu\":%.0f,\"sum\":%lu}\n", received, cpu_us() - cpu, sum & 1);
      fflush(stdout);
      received = 0;
      cpu = cpu_us();
    }
    if (waits[0].revents == 0) continue;
    for (int i = 0; i < kBatch; i++) {
      slots[i] = (struct iovec){data[i], sizeof(data[i])};
      messages[i].msg_hdr = (struct msghdr){.msg_name = &sources[i],
                                            .msg_namelen = sizeof(sources[i]),
                                            .msg_iov = &slots[i],
                                            .msg_iovlen = 1,
                                            .msg_control = control[i],
                                            .msg_controllen = sizeof(control[i])};
    }
    const int count = recvmmsg(fd, messages, kBatch, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
      const struct cmsghdr *message = CMSG_FIRSTHDR(&messages[i].msg_hdr);
      struct sockaddr_in destination;
      memcpy(&destination, CMSG_DATA(message), sizeof(destination));
      sum += destination.sin_addr.s_addr;
      if (messages[i].msg_len == 1) {
        sendto(fd, data[i], 1, 0, (struct sockaddr *)&sources[i], sizeof(sources[i]));
      }
    }
    received += count > 0 ? count : 0;
  }
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "receive") == 0) receive();
  else if (argc == 6 && strcmp(argv[1], "flood") == 0) flood(connected(argv[2], argv[3]), atoi(argv[4]), atof(argv[5]));
  else if (argc == 7 && strcmp(argv[1], "paced") == 0)
    paced(connected(argv[2], argv[3]), atoi(argv[4]), atof(argv[5]), atof(argv[6]));
  else if (argc == 5 && strcmp(argv[1], "ping") == 0) ping(connected(argv[2], argv[3]), atoi(argv[4]));
  else return 2;
  return 0;
}
