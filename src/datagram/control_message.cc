#include "datagram/control_message.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

namespace original_dst {

namespace {

// As the kernel lays it out; musl's cmsghdr has a 32-bit length beside padding.
struct Header {
  size_t length;  // header included, padding behind the data not
  int level;
  int type;
};

constexpr size_t align(size_t length) {
  return (length + sizeof(size_t) - 1) & ~(sizeof(size_t) - 1);
}

void read_message(const Header& header, const uint8_t* data, size_t length, Control* control) {
  if ((header.level == SOL_IP && header.type == IP_ORIGDSTADDR) ||
      (header.level == SOL_IPV6 && header.type == IPV6_ORIGDSTADDR)) {
    endpoint_from_bytes(data, length, &control->destination);
  } else if (header.level == SOL_SOCKET && header.type == SO_RXQ_OVFL &&
             length >= sizeof(control->drops)) {
    memcpy(&control->drops, data, sizeof(control->drops));
  } else if (header.level == SOL_UDP && header.type == UDP_GRO &&
             length >= sizeof(control->segment)) {
    memcpy(&control->segment, data, sizeof(control->segment));
  }
}

}  // namespace

int parse_control(const uint8_t* bytes, size_t length, Control* control) {
  *control = {};
  size_t at = 0;
  while (at < length) {
    const size_t left = length - at;
    Header header;
    if (left < sizeof(header)) return -EBADMSG;
    memcpy(&header, bytes + at, sizeof(header));
    if (header.length < sizeof(header) || header.length > left) return -EBADMSG;
    read_message(header, bytes + at + sizeof(header), header.length - sizeof(header), control);
    // The last message may come without the padding that aligns the next one.
    const size_t step = align(header.length);
    if (step >= left) return 0;
    at += step;
  }
  return 0;
}

}  // namespace original_dst
