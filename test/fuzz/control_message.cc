// sources: src/datagram/control_message.cc src/socket/endpoint.cc
// Any bytes are refused or read within their bounds; a list made by the libc's own macros is read
// back whole.
#include "datagram/control_message.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "test/fuzz/input.h"

using original_dst::Control;
using original_dst::Endpoint;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

// A list of control messages as recvmsg(2) leaves one, by CMSG_FIRSTHDR and CMSG_NXTHDR.
class List {
 public:
  List() {
    message_.msg_control = bytes_;
    message_.msg_controllen = sizeof(bytes_);
  }

  void add(int level, int type, const void* data, size_t size) {
    cmsghdr* header = last_ == nullptr ? CMSG_FIRSTHDR(&message_) : CMSG_NXTHDR(&message_, last_);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), data, size);
    length_ += CMSG_SPACE(size);
    last_ = header;
  }

  const uint8_t* bytes() const { return bytes_; }
  size_t length() const { return length_; }

 private:
  alignas(cmsghdr) uint8_t bytes_[512] = {};
  msghdr message_ = {};
  cmsghdr* last_ = nullptr;
  size_t length_ = 0;
};

void check_list(Input& input) {
  List list;
  Control expected = {};
  if (input.flag()) {
    const uint32_t mark = input.number<uint32_t>();
    list.add(SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
  }
  if (input.flag()) {
    expected.drops = input.number<uint32_t>();
    list.add(SOL_SOCKET, SO_RXQ_OVFL, &expected.drops, sizeof(expected.drops));
  }
  sockaddr_storage destination = {};
  if (input.flag()) {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = input.number<uint16_t>();
    v4.sin_addr.s_addr = input.number<uint32_t>();
    list.add(SOL_IP, IP_ORIGDSTADDR, &v4, sizeof(v4));
    memcpy(&destination, &v4, sizeof(v4));
  } else {
    sockaddr_in6 v6 = {};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = input.number<uint16_t>();
    input.bytes(&v6.sin6_addr, sizeof(v6.sin6_addr));
    list.add(SOL_IPV6, IPV6_ORIGDSTADDR, &v6, sizeof(v6));
    memcpy(&destination, &v6, sizeof(v6));
  }
  check(original_dst::endpoint_from_sockaddr(destination, &expected.destination) == 0);

  Control control;
  check(original_dst::parse_control(list.bytes(), list.length(), &control) == 0);
  check(control.drops == expected.drops);
  check(memcmp(&control.destination, &expected.destination, sizeof(Endpoint)) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Control control;
  const int status = original_dst::parse_control(data, size, &control);
  check(status == 0 || status == -EBADMSG);
  Input input(data, size);
  check_list(input);
  return 0;
}
