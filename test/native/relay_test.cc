// Runs the relay engine without Node, so that it can be built with the sanitizers: many relays at
// once, whose four ends write, read, pause, half-close, reset and are destroyed at random.
//
//   relay_test MODE SEED RELAYS
//
// MODE: splice, refuse-splice (EINVAL), refuse-splice-out (the sink's side only), no-pipes
// (EMFILE). Prints one line and exits with 0, or says what went wrong and exits with 1.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "random.h"
#include "refusals.h"
#include "relay/thread.h"

using original_dst::kClient;
using original_dst::kNeither;
using original_dst::kNoneFresh;
using original_dst::kRelayAborted;
using original_dst::kRelayEnd;
using original_dst::kRelayIdle;
using original_dst::kRelayOpen;
using original_dst::kRelayReset;
using original_dst::kUpstream;
using original_dst::OwnedFd;
using original_dst::Relay;
using original_dst::RelaySlot;
using original_dst::RelayThread;

namespace {

[[noreturn]] void fail(const char* what, uint32_t relay) {
  fprintf(stderr, "relay %u: %s (errno %s)\n", relay, what, strerror(errno));
  exit(1);
}

// Bytes that tell their position: a period that is no multiple of any buffer's size.
constexpr size_t kPeriod = 65521;
constexpr size_t kChunk = 300 * 1024;
uint8_t pattern[kPeriod + kChunk];

struct End {
  OwnedFd fd;
  uint64_t sent = 0;
  uint64_t received = 0;
  bool sent_fin = false;
  bool sent_rst = false;
  bool sent_urgent = false;
  bool got_fin = false;
  int got_error = 0;

  bool reading() const { return fd.valid() && !got_fin && got_error == 0; }
};

struct Case {
  uint32_t id = 0;
  End ends[2];  // the client's and the server's
  RelaySlot slot = {};
  bool idle_limit = false;
  bool destroyed = false;
  bool closed = false;
};

void connection(int listener, const sockaddr_in& address, OwnedFd* dialled, OwnedFd* accepted) {
  dialled->reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(dialled->get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fail("connect", 0);
  }
  fcntl(dialled->get(), F_SETFL, O_NONBLOCK);
  accepted->reset(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted->valid()) fail("accept", 0);
}

void write_some(Case* one, int side) {
  End& end = one->ends[side];
  // What is written to a relay that is gone cannot arrive.
  if (!end.fd.valid() || end.sent_fin || one->destroyed) return;
  // Small ones most of the time, large ones for the pipes.
  const size_t length = 1 + (random_below(4) == 0 ? random_below(kChunk - 1) : random_below(2000));
  const ssize_t n = send(end.fd.get(), pattern + end.sent % kPeriod, length, MSG_NOSIGNAL);
  if (n > 0) end.sent += static_cast<size_t>(n);
  // Whoever asks first is told of a RST; a recv(2) after this one would say 0.
  if (n < 0 && errno != EAGAIN) end.got_error = errno;
}

// One byte of the pattern as urgent data. Once a connection: of two that are underway together the
// receiving kernel may drop the first.
void write_urgent(Case* one, int side) {
  End& end = one->ends[side];
  if (!end.fd.valid() || end.sent_fin || end.sent_urgent || one->destroyed) return;
  const ssize_t n = send(end.fd.get(), pattern + end.sent % kPeriod, 1, MSG_NOSIGNAL | MSG_OOB);
  if (n == 1) {
    end.sent++;
    end.sent_urgent = true;
  }
  if (n < 0 && errno != EAGAIN) end.got_error = errno;
}

void read_some(Case* one, int side) {
  static uint8_t buffer[kChunk];
  End& end = one->ends[side];
  if (!end.reading()) return;
  const ssize_t n = recv(end.fd.get(), buffer, 1 + random_below(kChunk - 1), 0);
  if (n == 0) {
    end.got_fin = true;
  } else if (n < 0) {
    if (errno != EAGAIN) end.got_error = errno;
  } else {
    if (memcmp(buffer, pattern + end.received % kPeriod, static_cast<size_t>(n)) != 0) {
      fail("bytes are not those that were sent", one->id);
    }
    end.received += static_cast<size_t>(n);
  }
}

void finish_writing(Case* one, int side) {
  End& end = one->ends[side];
  if (!end.fd.valid() || end.sent_fin) return;
  shutdown(end.fd.get(), SHUT_WR);
  end.sent_fin = true;
}

void reset(Case* one, int side) {
  End& end = one->ends[side];
  if (!end.fd.valid()) return;
  const linger abort = {1, 0};
  setsockopt(end.fd.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  end.fd.reset();
  end.sent_rst = true;
}

uint64_t counter(const double* from) {
  uint64_t bits = __atomic_load_n(reinterpret_cast<const uint64_t*>(from), __ATOMIC_RELAXED);
  double number;
  memcpy(&number, &bits, sizeof(number));
  return static_cast<uint64_t>(number);
}

void collect(RelayThread* thread, std::vector<std::unique_ptr<Case>>* cases, uint32_t* open) {
  for (Relay* relay = thread->take_closed(); relay != nullptr;) {
    Relay* const next = relay->next;
    Case* const one = (*cases)[relay->id].get();
    if (one->closed) fail("closed twice", one->id);
    one->closed = true;
    (*open)--;
    delete relay;
    relay = next;
  }
}

void check(const Case& one) {
  const End& client = one.ends[kClient];
  const End& server = one.ends[kUpstream];
  if (one.slot.reason == kRelayOpen) fail("closed without a reason", one.id);
  const bool broken = client.sent_rst || server.sent_rst;
  if (!broken && !one.destroyed && !one.idle_limit && one.slot.reason != kRelayEnd) {
    fail("nobody broke it, and it did not end", one.id);
  }
  if (one.slot.reason == kRelayReset && !broken) fail("a reset that nobody sent", one.id);
  if (one.slot.reason == kRelayAborted && !one.destroyed) fail("aborted by nobody", one.id);
  if (one.slot.reason == kRelayIdle && !one.idle_limit) fail("idle without a limit", one.id);
  for (const int side : {0, 1}) {
    const End& from = one.ends[side];
    const End& to = one.ends[1 - side];
    const uint64_t counted = counter(side == kClient ? &one.slot.to_upstream : &one.slot.to_client);
    if (to.received > from.sent) fail("more came out than went in", one.id);
    if (to.received > counted) fail("the counter lags behind", one.id);
    if (one.slot.reason == kRelayEnd && counted != from.sent) fail("ended too early", one.id);
    if (to.sent_rst) continue;
    // One that closed by our own will may have done so just before its socket had the last bytes.
    const bool willed = one.slot.reason == kRelayIdle || one.slot.reason == kRelayAborted;
    if (to.got_fin && to.received != from.sent && !willed) {
      fail("a cut stream ended in FIN", one.id);
    }
    const bool reset = one.slot.reason == kRelayReset && one.slot.side == side;
    if (reset && !from.sent_fin && to.got_error == 0) fail("RST did not arrive", one.id);
    if (one.slot.reason == kRelayEnd && !to.got_fin) fail("FIN did not arrive", one.id);
  }
}

std::unique_ptr<Relay> make_relay(Case* one, int listener, const sockaddr_in& address) {
  OwnedFd client;
  OwnedFd upstream;
  connection(listener, address, &one->ends[kClient].fd, &client);
  connection(listener, address, &upstream, &one->ends[kUpstream].fd);
  // Whoever is at the ends reads urgent data where it stands in the stream; the relay's sockets are
  // as the kernel makes them.
  const int on = 1;
  for (const End& end : one->ends) {
    setsockopt(end.fd.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
  }
  auto relay = std::make_unique<Relay>();
  relay->id = one->id;
  relay->slot = &one->slot;
  relay->open(std::move(client), std::move(upstream), kNoneFresh);
  return relay;
}

void give(RelayThread* thread, std::unique_ptr<Relay> relay) {
  if (thread->add(relay.get()) != 0) fail("add", relay->id);
  static_cast<void>(relay.release());
}

// A relay that is destroyed with bytes underway: whoever misses them must not see FIN.
void destroy_while_stalled(RelayThread* thread, int listener, const sockaddr_in& address) {
  Case one;
  give(thread, make_relay(&one, listener, address));
  uint64_t before = 0;
  do {
    before = one.ends[kClient].sent;
    for (int i = 0; i < 100; i++) write_some(&one, kClient);
    usleep(20000);
  } while (one.ends[kClient].sent != before);
  thread->destroy(one.id);
  Relay* relay = nullptr;
  while (relay == nullptr) relay = thread->take_closed();
  delete relay;
  while (one.ends[kUpstream].reading()) read_some(&one, kUpstream);
  if (one.ends[kUpstream].got_fin) fail("destroyed with bytes underway, and FIN was sent", 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: relay_test MODE SEED RELAYS", 0);
  seed_random(argv[2]);
  const auto count = static_cast<uint32_t>(strtoul(argv[3], nullptr, 10));
  for (uint8_t& byte : pattern) {
    const size_t at = static_cast<size_t>(&byte - pattern);
    byte = at < kPeriod ? static_cast<uint8_t>(random_below(256)) : pattern[at - kPeriod];
  }
  signal(SIGPIPE, SIG_IGN);
  alarm(120);  // a relay that never closes

  OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(listener.get(), 128) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    fail("listen", 0);
  }
  if (!set_mode(argv[1])) fail("no such mode, or no seccomp", 0);

  OwnedFd notified(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const auto notify = [](void* context) {
    const uint64_t one = 1;
    if (write(*static_cast<int*>(context), &one, sizeof(one)) < 0) abort();
  };
  int notified_fd = notified.get();
  RelayThread thread(notify, &notified_fd);
  if (thread.start() != 0) fail("start", 0);

  destroy_while_stalled(&thread, listener.get(), address);

  std::vector<std::unique_ptr<Case>> cases;
  uint32_t open = 0;
  for (uint32_t id = 0; id < count; id++) {
    auto one = std::make_unique<Case>();
    one->id = id;
    std::unique_ptr<Relay> relay = make_relay(one.get(), listener.get(), address);
    one->idle_limit = random_below(16) == 0;
    if (one->idle_limit) relay->limits = {30, 10, 0, 20};
    // Some bring bytes that were read before.
    if (random_below(2) == 0) {
      const size_t ahead = random_below(kChunk);
      relay->flows[kClient].hold(pattern, ahead);
      one->ends[kClient].sent = ahead;
    }
    give(&thread, std::move(relay));
    open++;
    cases.push_back(std::move(one));
  }

  const uint32_t turns = count * 200;
  for (uint32_t turn = 0; turn < turns; turn++) {
    Case* const one = cases[random_below(count)].get();
    const int side = static_cast<int>(random_below(2));
    const uint32_t action = random_below(1000);
    if (action < 400) {
      write_some(one, side);
    } else if (action < 900) {
      read_some(one, side);
    } else if (action < 905) {
      finish_writing(one, side);
    } else if (action < 907) {
      reset(one, side);
    } else if (action == 907) {
      if (!one->closed && !one->destroyed) thread.destroy(one->id);
      one->destroyed = true;
    } else if (action < 910) {
      write_urgent(one, side);
    } else if (action < 920) {
      collect(&thread, &cases, &open);
    }
  }
  // Everybody says goodbye and reads to the end.
  for (const auto& one : cases) {
    for (const int side : {0, 1}) finish_writing(one.get(), side);
  }
  for (bool more = true; more || open > 0;) {
    more = false;
    for (const auto& one : cases) {
      for (const int side : {0, 1}) {
        read_some(one.get(), side);
        more |= one->ends[side].reading();
      }
    }
    collect(&thread, &cases, &open);
    pollfd wait = {notified.get(), POLLIN, 0};
    poll(&wait, 1, 0);
  }
  uint32_t reasons[6] = {};
  uint64_t bytes = 0;
  for (const auto& one : cases) {
    check(*one);
    reasons[one->slot.reason]++;
    bytes += one->ends[0].received + one->ends[1].received;
  }

  // Relays that are open, moving, or only on their way to the thread when it stops.
  for (uint32_t i = 0; i < 20; i++) {
    Case* const one = cases[i % count].get();
    std::unique_ptr<Relay> relay = make_relay(one, listener.get(), address);
    if (send(one->ends[kClient].fd.get(), pattern, kChunk, MSG_NOSIGNAL) < 0) fail("send", i);
    give(&thread, std::move(relay));
  }
  thread.stop();

  printf("%-17s seed %s: %u relays, %llu KiB, end %u reset %u idle %u aborted %u error %u\n",
         argv[1], argv[2], count, static_cast<unsigned long long>(bytes / 1024), reasons[1],
         reasons[2], reasons[3], reasons[4], reasons[5]);
  return reasons[5] == 0 ? 0 : 1;
}
