// flush PATH SEED MIN_MS MAX_MS   empties the conntrack table of the network namespace at PATH
// again and again, with random pauses, until its standard input ends; prints how often.
#define _GNU_SOURCE
#include <poll.h>

#include "conntrack.h"
#include "routes.h"

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  enter_namespace(argv[1]);
  const int fd = conntrack_open();
  uint64_t random = random_state(strtoull(argv[2], NULL, 10));
  const int least = atoi(argv[3]);
  const int most = atoi(argv[4]);
  struct pollfd end = {STDIN_FILENO, POLLIN, 0};
  int times = 0;
  while (poll(&end, 1, least + (int)random_below(&random, (uint32_t)(most - least + 1))) == 0) {
    conntrack_flush(fd);
    times++;
  }
  printf("flushed %d\n", times);
  return 0;
}
