// client KEY=VALUE...   TCP connections at random: see routes.h for the arguments. It opens its
// ctnetlink socket where it is started, then enters `namespace`.
//
// All connections leave from a few fixed ports, each used again as soon as it is free, mostly at
// once and to another destination. Each says first (token.h) where it was dialled. Some are reset
// before anybody has accepted them, of some the conntrack entry is deleted, at a random moment.
//
// Prints `wrong {…}` for an answer that is another connection's, `done {…}` at the end; then, and
// before, a port number on its standard input is answered with what this client has done from that
// port lately.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack.h"
#include "routes.h"
#include "token.h"

enum {
  kMaxSlots = 256,
  kMaxPorts = 1024,
  kMaxKinds = 64,
  kEvents = 64,
  kHistory = 12,
  kErrnos = 134,
};

enum ending { kAnswered, kMixed, kCut, kWasReset, kReset, kTimedOut, kNotConnected, kEndings };
static const char *const kEndingNames[] = {"answered", "mixed",    "cut",         "wasReset",
                                           "reset",    "timedOut", "notConnected"};

// When the connection's entry is deleted.
enum loss { kNoLoss, kAtOnce, kAfterToken, kAfterReset };
// What the client does between its connect() and the end.
enum manner { kWaits, kWaitsThenResets, kHalfCloses, kHesitates, kResetsEarly, kResetsSilently };

enum state { kIdle, kConnecting, kHesitating, kWaiting };

struct slot {
  struct token token;
  enum state state;
  enum manner manner;
  enum loss loss;
  int fd;
  const struct route *route;  // kept until a connection has been made
  uint64_t
      wake;  // when an idle one may start, a hesitating one goes on, another has waited too long
  size_t received;
  uint8_t answer[sizeof(struct token) + 1];
};

struct past {
  struct token token;
  enum manner manner;
  enum loss loss;
  enum ending ending;
  uint64_t ended;
};

static struct lane lane;
static struct slot slots[kMaxSlots];
static bool busy[kMaxPorts];
static struct past history[kMaxPorts][kHistory];
static unsigned pasts[kMaxPorts];
static int freed[kMaxPorts];  // the last port that has become free comes first
static int freed_count;
static long endings[kMaxKinds][kEndings], established[kMaxKinds], errnos[kErrnos];
static int epoll, conntrack, started, ended;
static uint32_t sequence;
static bool percent(int chance) { return (int)random_below(&lane.random, 100) < chance; }
static uint64_t patience_ns(void) { return (uint64_t)lane.patience * 1000000; }

static void forget(const struct slot *slot) {
  conntrack_forget(conntrack, IPPROTO_TCP, &slot->token);
}

static void reset_on_close(int fd) {
  const struct linger now = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

// An early reset makes the slot wait a little: without that the accept queue would only be full. So
// does a refusal, while there are no rules.
static void end(struct slot *slot, enum ending ending) {
  const int index = slot->token.source_port - lane.first_port;
  close(slot->fd);
  if (slot->loss == kAfterReset) forget(slot);
  history[index][pasts[index]++ % kHistory] =
      (struct past){slot->token, slot->manner, slot->loss, ending, now_ns()};
  endings[slot->token.kind][ending]++;
  busy[index] = false;
  if (freed_count < kMaxPorts) freed[freed_count++] = index;
  // One that never came to be is made up for, as often as it takes: there may be no rules for it
  // now.
  if (ending == kNotConnected) {
    started--;
  } else {
    ended++;
    slot->route = NULL;
  }
  slot->state = kIdle;
  const uint32_t longest = ending == kReset ? 8000000 : ending == kNotConnected ? 40000000 : 1;
  slot->wake = now_ns() + random_below(&lane.random, longest);
}

static int choose_port(void) {
  while (freed_count > 0 && percent(70)) {
    const int index = freed[--freed_count];
    if (!busy[index]) return index;
  }
  for (;;) {
    const int index = (int)random_below(&lane.random, (uint32_t)lane.ports);
    if (!busy[index]) return index;
  }
}

static void plan(struct slot *slot) {
  slot->loss = kNoLoss;
  if (percent(lane.early)) {
    slot->manner = percent(10) ? kResetsSilently : kResetsEarly;
    slot->token.flags |= kPlansReset;
  } else {
    const uint32_t choice = random_below(&lane.random, 10);
    slot->manner = choice < 5   ? kWaits
                   : choice < 7 ? kWaitsThenResets
                   : choice < 9 ? kHalfCloses
                                : kHesitates;
  }
  if (!percent(lane.loss)) return;
  const uint32_t when = random_below(&lane.random, slot->token.flags & kPlansReset ? 3 : 2);
  slot->loss = when == 0 ? kAtOnce : when == 1 ? kAfterToken : kAfterReset;
  slot->token.flags |= kPlansLoss;
}

static void start(struct slot *slot) {
  const int index = choose_port();
  const uint16_t port = (uint16_t)(lane.first_port + index);
  if (slot->route == NULL) slot->route = choose_route(&lane);
  choose_destination(&lane, slot->route, port, &slot->token);
  slot->token.sequence = sequence++;
  plan(slot);
  const int domain = slot->token.family == 4 ? AF_INET : AF_INET6;
  struct sockaddr_storage name;
  slot->fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(slot->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  socklen_t length = to_sockaddr(slot->token.family, slot->token.source, port, &name);
  if (bind(slot->fd, (const struct sockaddr *)&name, length) != 0) {
    // Still closing: another one, next time round.
    close(slot->fd);
    errnos[errno]++;
    return;
  }
  busy[index] = true;
  started++;
  slot->received = 0;
  slot->token.started = now_ns();
  slot->wake = slot->token.started + patience_ns();
  length = to_sockaddr(slot->token.family, slot->token.address, slot->token.port, &name);
  if (connect(slot->fd, (const struct sockaddr *)&name, length) != 0 && errno != EINPROGRESS) {
    errnos[errno]++;
    end(slot, kNotConnected);
    return;
  }
  slot->state = kConnecting;
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = slot};
  epoll_ctl(epoll, EPOLL_CTL_ADD, slot->fd, &event);
}

static void say(struct slot *slot) {
  if (slot->manner != kResetsSilently) {
    send(slot->fd, &slot->token, sizeof(slot->token), MSG_NOSIGNAL);
  }
  if (slot->loss == kAfterToken) forget(slot);
  if (slot->token.flags & kPlansReset) {
    reset_on_close(slot->fd);
    end(slot, kReset);
    return;
  }
  if (slot->manner == kHalfCloses) shutdown(slot->fd, SHUT_WR);
  slot->state = kWaiting;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
  epoll_ctl(epoll, EPOLL_CTL_MOD, slot->fd, &event);
}

static void connected(struct slot *slot) {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(slot->fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) {
    errnos[error]++;
    end(slot, kNotConnected);
    return;
  }
  established[slot->token.kind]++;
  if (slot->loss == kAtOnce) forget(slot);
  if (slot->manner != kHesitates) {
    say(slot);
    return;
  }
  slot->state = kHesitating;
  slot->wake = now_ns() + random_below(&lane.random, 50000000);
  struct epoll_event event = {.events = 0, .data.ptr = slot};
  epoll_ctl(epoll, EPOLL_CTL_MOD, slot->fd, &event);
}

static void report_mixed(const struct slot *slot) {
  struct token other;
  memcpy(&other, slot->answer, sizeof(other));
  printf(
      "wrong {\"kind\":%u,\"lane\":%u,\"sourcePort\":%u,\"sequence\":%u,\"flags\":%u,"
      "\"truth\":\"%s %u\",\"found\":\"the answer to sequence %u from port %u\"}\n",
      slot->token.kind, slot->token.lane, slot->token.source_port, slot->token.sequence,
      slot->token.flags, address_text(slot->token.family, slot->token.address), slot->token.port,
      other.sequence, other.source_port);
  fflush(stdout);
}

static void heard(struct slot *slot) {
  const ssize_t count =
      recv(slot->fd, slot->answer + slot->received, sizeof(slot->answer) - slot->received, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count < 0) {
    errnos[errno]++;
    end(slot, kWasReset);
    return;
  }
  slot->received += (size_t)count;
  if (count > 0 && slot->received <= sizeof(slot->token)) return;
  if (slot->manner == kWaitsThenResets) reset_on_close(slot->fd);
  if (slot->received < sizeof(slot->token)) {
    end(slot, kCut);
  } else if (slot->received == sizeof(slot->token) &&
             memcmp(slot->answer, &slot->token, sizeof(slot->token)) == 0) {
    end(slot, kAnswered);
  } else {
    report_mixed(slot);
    end(slot, kMixed);
  }
}

static void tick(struct slot *slot, uint64_t now) {
  if (slot->wake > now) return;
  if (slot->state == kIdle) {
    if (started < lane.count) start(slot);
  } else if (slot->state == kHesitating) {
    slot->wake = now_ns() + patience_ns();
    say(slot);
  } else {
    reset_on_close(slot->fd);
    end(slot, kTimedOut);
  }
}

static void tell_history(int port) {
  const int index = port - lane.first_port;
  static const char *const manners[] = {"waits",     "waits, then resets", "half-closes",
                                        "hesitates", "resets early",       "resets silently"};
  static const char *const losses[] = {"", ", entry deleted at once",
                                       ", entry deleted after the token",
                                       ", entry deleted after the reset"};
  if (index < 0 || index >= lane.ports) return;
  printf("history [");
  const char *comma = "";
  for (unsigned i = pasts[index] > kHistory ? pasts[index] - kHistory : 0; i < pasts[index]; i++) {
    const struct past *const past = &history[index][i % kHistory];
    printf("%s\"%u: %s %u, %s%s: %s after %.2f ms, begun at %.2f\"", comma, past->token.sequence,
           address_text(past->token.family, past->token.address), past->token.port,
           manners[past->manner], losses[past->loss], kEndingNames[past->ending],
           (double)(past->ended - past->token.started) / 1e6, (double)past->token.started / 1e6);
    comma = ",";
  }
  printf("]\n");
  fflush(stdout);
}

// False at the end of the standard input.
static bool answer_questions(void) {
  char line[256];
  const ssize_t count = read(STDIN_FILENO, line, sizeof(line) - 1);
  if (count <= 0) return false;
  line[count] = '\0';
  for (char *rest = line, *word; (word = strsep(&rest, "\n")) != NULL;) {
    if (*word != '\0') tell_history(atoi(word));
  }
  return true;
}

static void report(void) {
  printf("done {\"kinds\":{");
  const char *comma = "";
  for (int kind = 0; kind < kMaxKinds; kind++) {
    long sum = 0;
    for (int i = 0; i < kEndings; i++) sum += endings[kind][i];
    if (sum == 0) continue;
    printf("%s\"%d\":{\"begun\":%ld,\"established\":%ld", comma, kind, sum, established[kind]);
    for (int i = 0; i < kEndings; i++) printf(",\"%s\":%ld", kEndingNames[i], endings[kind][i]);
    printf("}");
    comma = ",";
  }
  printf("},\"errnos\":{");
  comma = "";
  for (int i = 0; i < kErrnos; i++) {
    if (errnos[i] == 0) continue;
    printf("%s\"%s\":%ld", comma, strerrorname_np(i), errnos[i]);
    comma = ",";
  }
  puts("}}");
  fflush(stdout);
}

int main(int argc, char **argv) {
  const char *const namespace = parse_lane(argc, argv, &lane);
  if (namespace == NULL || lane.at_once > kMaxSlots || lane.ports > kMaxPorts ||
      lane.ports < 2 * lane.at_once || lane.route_count == 0) {
    return 2;
  }
  conntrack = conntrack_open();
  enter_namespace(namespace);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event questions = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &questions);

  for (bool done = false, running = true; running;) {
    const uint64_t now = now_ns();
    for (int i = 0; i < lane.at_once; i++) tick(&slots[i], now);
    if (!done && ended >= lane.count) {
      done = true;
      report();
    }
    struct epoll_event events[kEvents];
    const int count = epoll_wait(epoll, events, kEvents, done ? -1 : 1);
    for (int i = 0; i < count; i++) {
      struct slot *const slot = events[i].data.ptr;
      if (slot == NULL)
        running = answer_questions();
      else if (slot->state == kConnecting)
        connected(slot);
      else if (slot->state == kWaiting)
        heard(slot);
      else if (slot->state == kHesitating)
        tick(slot, UINT64_MAX);
    }
  }
  return 0;
}
