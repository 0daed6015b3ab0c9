// Runs the accepting part of the relay engine without Node, so that it can be built with the
// sanitizers. Clients dial an echo server; a rule redirects them to a socket that two relay threads
// accept from, which go by lasting verdicts that change all the time, and else asks this program,
// which answers at random: dial, refuse, or keep the connection for itself.
//
//   unshare -Urn sh -c 'ip link set lo up; …; accept_test SEED CONNECTIONS [inspect]'
//
// With `inspect` the thread looks at first bytes before it decides, for a millisecond at most.
//
// In its network namespace: tcp dport 7001 redirect to :15001, but not what has the mark 7. Prints
// one line and exits with 0, or says what went wrong and exits with 1.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "echo_server.h"
#include "random.h"
#include "relay/listener.h"
#include "relay/thread.h"
#include "socket/socket_options.h"

using original_dst::DialPlan;
using original_dst::Endpoint;
using original_dst::endpoint_parse;
using original_dst::kRelayIt;
using original_dst::kResetIt;
using original_dst::ListenerStats;
using original_dst::monotonic_ms;
using original_dst::News;
using original_dst::OwnedFd;
using original_dst::Relay;
using original_dst::RelayListener;
using original_dst::RelaySlot;
using original_dst::RelayThread;
using original_dst::reset_on_close;
using original_dst::Route;

namespace {

constexpr uint16_t kServerPort = 7001;
constexpr uint16_t kProxyPort = 15001;
constexpr uint32_t kMark = 7;
constexpr uint32_t kThreads = 2;
constexpr size_t kAtOnce = 40;
constexpr char kWords[] = "what goes out comes back\n";

struct Client {
  OwnedFd fd;
  size_t received = 0;
  bool said = false;
  bool resets = false;  // it goes by RST, at once
};

// Returns true when the connection has ended; a whole echo, or RST and nothing else to go by.
bool drive(Client* client, bool stopping, uint64_t* whole) {
  if (!client->said) {
    const ssize_t n = send(client->fd.get(), kWords, sizeof(kWords), MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return false;
    if (n < 0) return true;
    client->said = true;
    if (client->resets) {
      reset_on_close(client->fd.get());
      return true;
    }
    shutdown(client->fd.get(), SHUT_WR);
  }
  char buffer[256];
  const ssize_t n = recv(client->fd.get(), buffer, sizeof(buffer), 0);
  if (n < 0) return errno != EAGAIN;
  if (n > 0) {
    if (client->received + static_cast<size_t>(n) > sizeof(kWords) ||
        memcmp(buffer, kWords + client->received, static_cast<size_t>(n)) != 0) {
      fail("bytes are not those that were sent");
    }
    client->received += static_cast<size_t>(n);
    return false;
  }
  // One that was destroyed before a byte of it had come is no cut stream.
  if (stopping && client->received == 0) return true;
  if (client->received != sizeof(kWords)) fail("a cut stream ended in FIN");
  (*whole)++;
  return true;
}

// What TypeScript is in the addon: decides, and hears of what has closed.
class Decider {
 public:
  Decider(RelayThread* const* threads, const Endpoint& destination)
      : threads_(threads), destination_(destination) {}

  void decide() {
    for (uint32_t i = 0; i < kThreads; i++) decide(threads_[i]);
  }

  bool over() const { return over_ == kThreads; }
  uint32_t open() const { return open_; }
  uint32_t dialled() const { return static_cast<uint32_t>(slots_.size()); }
  uint64_t recorded() const { return recorded_; }
  void let_go() { kept_.clear(); }

 private:
  void decide(RelayThread* thread) {
    News* const news = thread->take_news();
    original_dst::Records records;
    thread->take_records(&records);
    while (records.shift() != nullptr) recorded_++;
    for (News* next = news; next != nullptr;) {
      const std::unique_ptr<News> one(next);
      next = one->next;
      if (one->kind == News::kOver) over_++;
      if (one->kind != News::kUndecided) continue;
      if (one->status != 0 || one->facts.original_status != 0) fail("no facts");
      switch (random_below(4)) {
        case 0:
          reset_on_close(one->fd.get());
          break;
        case 1:
          kept_.push_back(std::move(one->fd));
          break;
        default:
          dial(thread, one.get());
      }
    }
    for (Relay* next = thread->take_closed(); next != nullptr;) {
      const std::unique_ptr<Relay> one(next);
      next = one->next;
      if (slots_[one->id]->reason == original_dst::kRelayOpen) fail("closed without a reason");
      open_--;
    }
    if (!kept_.empty() && random_below(3) == 0) {
      reset_on_close(kept_.back().get());
      kept_.pop_back();
    }
  }

  void dial(RelayThread* thread, News* one) {
    auto relay = std::make_unique<Relay>();
    relay->id = dialled();
    slots_.push_back(std::make_unique<RelaySlot>());
    relay->slot = slots_.back().get();
    relay->limits = one->limits;
    Endpoint to = destination_;
    // Now and then to where nobody listens.
    if (random_below(5) == 0) to.port = 1;
    relay->dial = std::make_unique<original_dst::Dial>(one->plan.dial(to, one->facts.peer));
    relay->ends[original_dst::kClient].fd = std::move(one->fd);
    if (thread->add(relay.get()) != 0) fail("add");
    static_cast<void>(relay.release());
    open_++;
  }

  RelayThread* const* const threads_;
  const Endpoint destination_;
  std::vector<std::unique_ptr<RelaySlot>> slots_;
  std::vector<OwnedFd> kept_;
  uint32_t open_ = 0;
  uint32_t over_ = 0;
  uint64_t recorded_ = 0;
};

// By a port where nobody listens, then by a SOCKS5 proxy: the echo server is one to whom says what
// he wants to hear.
Route::Ref by_socks(const Endpoint& destination) {
  auto* const route = new Route;
  route->protocol = original_dst::ProxyProtocol::kSocks5;
  route->greeting = {5, 0};
  route->requests = {{5, 0, 0, 1, 127, 0, 0, 1, 0, 80}};
  Endpoint nobody = destination;
  nobody.port = 1;
  route->hops = {{nobody, 0, 0}, {destination, 0, 0}};
  return Route::Ref(route);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) fail("usage: accept_test SEED CONNECTIONS [inspect]");
  seed_random(argv[1]);
  const auto connections = static_cast<uint32_t>(strtoul(argv[2], nullptr, 10));

  const OwnedFd news(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const auto notify = [](void* context) {
    const uint64_t one = 1;
    if (write(static_cast<const OwnedFd*>(context)->get(), &one, sizeof(one)) < 0) return;
  };
  RelayThread one(notify, const_cast<OwnedFd*>(&news));
  RelayThread two(notify, const_cast<OwnedFd*>(&news));
  RelayThread* const threads[kThreads] = {&one, &two};
  for (RelayThread* const thread : threads) {
    if (thread->start() != 0) fail("start");
  }

  EchoServer server(kServerPort);
  const OwnedFd listens = listening(kProxyPort);
  original_dst::ListenerGroup* const group =
      new original_dst::ListenerGroup({1000, 0, 0, 0}, false);
  original_dst::Wanted wanted;
  if (argc > 3) wanted.protocol = original_dst::kOther;
  ListenerStats stats[kThreads] = {};
  RelayListener listeners[kThreads];
  for (uint32_t i = 0; i < kThreads; i++) {
    RelayListener& listener = listeners[i];
    listener.fd.reset(fcntl(listens.get(), F_DUPFD_CLOEXEC, 0));
    listener.port = kProxyPort;
    listener.plan = {true, kMark, DialPlan::kOwn, false};
    listener.stats = &stats[i];
    listener.group = i == 0 ? group : group->ref();
    listener.shared = true;
    listener.set_recorded(true);
    if (argc > 3) {
      listener.inspection.on = true;
      listener.inspection.every_port = true;
      listener.inspection.timeout_ms = 1;
      listener.inspection.max_bytes = 4096;
    }
    if (threads[i]->listen(&listener) != 0) fail("listen");
  }

  Endpoint destination;
  endpoint_parse("127.0.0.1", kServerPort, &destination);
  Decider decider(threads, destination);
  std::vector<Client> clients;
  uint64_t whole = 0;
  uint32_t begun = 0;
  const uint64_t deadline = monotonic_ms() + 120000;
  bool stopping = false;
  while (!decider.over() || decider.open() > 0 || !clients.empty()) {
    if (monotonic_ms() > deadline) fail("did not come to its end");
    if (begun < connections && clients.size() < kAtOnce) {
      Client client;
      client.fd.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      const sockaddr_in address = loopback(kServerPort);
      if (connect(client.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
              0 &&
          errno != EINPROGRESS) {
        fail("connect");
      }
      client.resets = random_below(6) == 0;
      clients.push_back(std::move(client));
      begun++;
    }
    switch (random_below(8)) {
      case 0:
        group->verdicts.set(destination, wanted, kRelayIt, monotonic_ms() + 5, false,
                            random_below(2) == 0 ? Route::Ref() : by_socks(destination));
        break;
      case 1:
        group->verdicts.set(destination, wanted, kResetIt, monotonic_ms() + 1);
        break;
      case 2:
        group->verdicts.revoke_all();
        break;
      default:
        break;
    }
    server.serve();
    decider.decide();
    for (size_t i = 0; i < clients.size();) {
      if (drive(&clients[i], stopping, &whole)) {
        clients[i] = std::move(clients.back());
        clients.pop_back();
      } else {
        i++;
      }
    }
    // Half way through the last ones nothing more is accepted, and what is open is destroyed.
    if (begun == connections && clients.size() <= kAtOnce / 2 && !stopping) {
      stopping = true;
      decider.let_go();
      for (uint32_t i = 0; i < kThreads; i++) {
        // One closes at its leisure, the other at once.
        if (threads[i]->unlisten(&listeners[i], i == 0) != 0) fail("unlisten");
      }
    }
    if (stopping) decider.let_go();
    pollfd wait = {news.get(), POLLIN, 0};
    poll(&wait, 1, 1);
    uint64_t ignored;
    if (read(news.get(), &ignored, sizeof(ignored)) < 0) ignored = 0;
  }
  double accepted = 0;
  double relayed = 0;
  for (const ListenerStats& of : stats) {
    accepted += of.accepted;
    relayed += of.relayed;
    if (of.open != 0) fail("the count of open relays is off");
    if (of.inspecting != 0) fail("the count of those that wait is off");
    if (whole == 0 || of.relayed == 0 || of.reset == 0 || decider.dialled() == 0) {
      fail("something never happened");
    }
  }
  if (decider.recorded() < static_cast<uint64_t>(relayed)) fail("records are missing");
  for (RelayThread* const thread : threads) thread->stop();
  printf(
      "accept: %u connections, %llu whole, %.0f accepted, %.0f by verdict, %u dialled on demand\n",
      begun, static_cast<unsigned long long>(whole), accepted, relayed, decider.dialled());
  return 0;
}
