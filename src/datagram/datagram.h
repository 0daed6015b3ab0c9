// UDP sockets that tell where each datagram was going, and send from any address.
#ifndef ORIGINAL_DST_DATAGRAM_DATAGRAM_H_
#define ORIGINAL_DST_DATAGRAM_DATAGRAM_H_

#include <sys/socket.h>

#include <memory>

#include "socket/endpoint.h"
#include "socket/owned_fd.h"

namespace original_dst {

struct DatagramOptions {
  bool transparent;         // IP_TRANSPARENT, IPV6_TRANSPARENT
  bool ipv6_only;           // IPV6_V6ONLY
  bool reuse_address;       // SO_REUSEADDR
  bool gro;                 // UDP_GRO, where the kernel has it
  uint32_t mark;            // SO_MARK; 0 leaves it alone
  uint32_t receive_buffer;  // SO_RCVBUF in bytes; 0 leaves it alone
  int where;                // -1, or a descriptor of its network namespace
};

// What open_datagram_socket was at when it failed; lib/udp/datagram-port.ts names them.
enum class OpenStep : uint32_t { kSocket, kOption, kTransparent, kMark, kBind, kAdopt };

// socket(2), setsockopt(2) (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR, SO_RXQ_OVFL, as asked), then
// bind(2). The options come first: a datagram that arrives in between would have no destination.
// Returns 0 or -errno, then with `step` set.
int open_datagram_socket(const DatagramOptions& options, const Endpoint& address, OwnedFd* fd,
                         Endpoint* bound, OpenStep* step);

// The same for a UDP socket that is bound, which becomes ours if all goes well. `v6`: of which
// family it is. Of what has come already the destination is known too: it is asked for when a
// datagram is read.
int adopt_datagram_socket(int given, const DatagramOptions& options, OwnedFd* fd, Endpoint* bound,
                          bool* v6, OpenStep* step);

// One received datagram, or several of one flow (UDP_GRO). Fixed layout, read by TypeScript
// (lib/udp/datagram-port.ts).
struct Datagram {
  Endpoint source;
  Endpoint destination;  // family 0: the kernel did not say
  uint32_t size;         // as it was sent
  uint32_t kept;         // less than size: truncated
  uint32_t offset;       // of the kept bytes in what copy_batch writes
  uint32_t drops;        // SO_RXQ_OVFL
  uint32_t segment;      // how long each is, the last perhaps less; 0: there is one alone
};
static_assert(sizeof(Datagram) == 68, "lib/udp/datagram-port.ts knows this layout");

// How many datagrams one receive_batch takes at most. Beyond 32 the rate no longer rises.
constexpr unsigned kBatch = 32;
// The largest payload of UDP, over IPv6 without jumbograms, is 65527 bytes.
constexpr size_t kMaxDatagram = 65535;

// Where recvmmsg(2) writes; used again for every batch. The pages are the kernel's to give once
// they are written to: small datagrams leave most of the 2 MB untouched.
class ReceiveBuffers {
 public:
  // False: no memory.
  bool allocate();

  // recvmmsg(fd, MSG_DONTWAIT | MSG_TRUNC), at most `limit` bytes of each datagram kept. Returns
  // how many came, or -errno; -EAGAIN: none.
  int receive_batch(int fd, size_t limit, Datagram (&batch)[kBatch]);

  // Writes the kept bytes of the last batch, one behind the other.
  void copy_batch(const Datagram* batch, size_t count, uint8_t* to) const;

 private:
  // Not a multiple of the page: slots at equal distances of 64 kB would all compete for the same
  // few lines of the cache.
  static constexpr size_t kStride = 65536 + 192;
  static constexpr size_t kControl = 160;

  struct Headers;
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<uint8_t, Free> data_;
  std::unique_ptr<Headers, Free> headers_;
};

// What is to be sent: one datagram, or several of `segment` bytes each, the last perhaps of less.
struct Payload {
  const uint8_t* data;
  size_t length;
  size_t segment;  // 0: all is one
};

// sendmsg(2), from `source` with IP_PKTINFO or IPV6_PKTINFO if its family is not 0. The port is
// always the one that the socket is bound to. `v6`: the socket is AF_INET6. Returns 0 or -errno;
// -EAGAIN: the send buffer is full. Of several datagrams the first may have been sent then; they go
// by UDP_SEGMENT, or one by one where kernel or device do not take that.
int send_datagram(int fd, bool v6, const Payload& payload, const Endpoint& to,
                  const Endpoint& source);

// The same from an address of a prefix that is local, but no interface's: IPV6_PKTINFO takes that
// with IPV6_FREEBIND alone, which is not left on, as it takes any other address too.
int send_from_alias(int fd, bool v6, const Payload& payload, const Endpoint& to,
                    const Endpoint& source);

}  // namespace original_dst

#endif  // ORIGINAL_DST_DATAGRAM_DATAGRAM_H_
