// flush PATH SEED MIN_MS MAX_MS   empties the conntrack table of the network namespace at PATH
// again and again, with random pauses, and at once whenever something comes on its standard input,
// which it answers with `now`. When that ends, so does it, and prints how often.
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
  const uint32_t most = (uint32_t)atoi(argv[4]);
  struct pollfd asked = {STDIN_FILENO, POLLIN, 0};
  for (int times = 1;; times++) {
    const int pause = least + (int)random_below(&random, most - (uint32_t)least + 1);
    const bool now = poll(&asked, 1, pause) > 0;
    char byte;
    if (now && read(STDIN_FILENO, &byte, 1) <= 0) {
      printf("flushed %d\n", times);
      return 0;
    }
    conntrack_flush(fd);
    if (!now) continue;
    puts("now");
    fflush(stdout);
  }
}
