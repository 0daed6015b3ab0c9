#include "datagram/datagram.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <algorithm>

#include "datagram/control_message.h"
#include "namespace/inside.h"
#include "socket/original_dst.h"
#include "socket/socket_options.h"

namespace original_dst {

namespace {

int enable(int fd, int level, int option, int value = 1) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

// A dual-stack socket needs both: IPv4 datagrams bring their address at SOL_IP there too.
int ask_for_destinations(int fd, bool v4, bool v6) {
  int status = 0;
  if (v4) status = enable(fd, SOL_IP, IP_RECVORIGDSTADDR);
  if (v6 && status == 0) status = enable(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR);
  return status;
}

int set_receive_buffer(int fd, uint32_t bytes) {
  const int value = static_cast<int>(bytes);
  // Beyond net.core.rmem_max for those who may; SO_RCVBUF is cut to it silently.
  if (enable(fd, SOL_SOCKET, SO_RCVBUFFORCE, value) == 0) return 0;
  return enable(fd, SOL_SOCKET, SO_RCVBUF, value);
}

// What a bound socket may be told too. Returns 0, or -errno with `step` set.
int set_options(int fd, const DatagramOptions& options, bool v4, bool v6, OpenStep* step) {
  *step = OpenStep::kOption;
  int status = ask_for_destinations(fd, v4, v6);
  if (status == 0) status = enable(fd, SOL_SOCKET, SO_RXQ_OVFL);
  if (status == 0 && options.receive_buffer != 0) {
    status = set_receive_buffer(fd, options.receive_buffer);
  }
  if (status == 0 && options.transparent) {
    *step = OpenStep::kTransparent;
    status = set_transparent(fd, true);
  }
  if (status == 0 && options.mark != 0) {
    *step = OpenStep::kMark;
    status = set_mark(fd, options.mark);
  }
  return status;
}

// The source address as a control message; returns its length.
size_t write_source(const Endpoint& source, cmsghdr* header) {
  if (source.family == 4) {
    in_pktinfo info = {};
    memcpy(&info.ipi_spec_dst, source.bytes, 4);
    header->cmsg_level = SOL_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(header), &info, sizeof(info));
    return CMSG_SPACE(sizeof(info));
  }
  in6_pktinfo info = {};
  memcpy(&info.ipi6_addr, source.bytes, 16);
  info.ipi6_ifindex = source.scope;
  header->cmsg_level = SOL_IPV6;
  header->cmsg_type = IPV6_PKTINFO;
  header->cmsg_len = CMSG_LEN(sizeof(info));
  memcpy(CMSG_DATA(header), &info, sizeof(info));
  return CMSG_SPACE(sizeof(info));
}

// How long the datagrams are that the kernel is to make of one message; returns its length.
size_t write_segment(size_t segment, cmsghdr* header) {
  const auto size = static_cast<uint16_t>(segment);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(size));
  memcpy(CMSG_DATA(header), &size, sizeof(size));
  return CMSG_SPACE(sizeof(size));
}

// As many as every kernel with UDP_SEGMENT takes, and as many bytes as fit into one packet of IP
// beside headers and extensions.
constexpr size_t kMostSegments = 64;
constexpr size_t kMostTogether = 65000;

// Before Linux 4.18 the control message is unknown; segments longer than the device's packets are
// not cut, and some devices cannot make checksums.
bool is_segment_refusal(int status) {
  return status == -EINVAL || status == -EMSGSIZE || status == -EIO;
}

// One sendmsg(2). `segment`: the length that UDP_SEGMENT cuts it to, if it is longer.
int send_once(int fd, bool v6, const uint8_t* data, size_t length, size_t segment,
              const Endpoint& to, const Endpoint& source) {
  sockaddr_storage name;
  iovec payload = {const_cast<uint8_t*>(data), length};
  msghdr message = {};
  message.msg_name = &name;
  message.msg_namelen = endpoint_to_sockaddr(to, v6, &name);
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(2)] = {};
  size_t used = 0;
  if (source.family != 0) used = write_source(source, reinterpret_cast<cmsghdr*>(control));
  if (segment != 0 && length > segment) {
    used += write_segment(segment, reinterpret_cast<cmsghdr*>(control + used));
  }
  if (used != 0) {
    message.msg_control = control;
    message.msg_controllen = used;
  }
  return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

}  // namespace

int open_datagram_socket(const DatagramOptions& options, const Endpoint& address, OwnedFd* fd,
                         Endpoint* bound, OpenStep* step) {
  const bool v6 = address.family == 6;
  *step = OpenStep::kSocket;
  OwnedFd opened;
  int status = open_socket_at(options.where, v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0,
                              &opened);
  if (status != 0) return status;

  *step = OpenStep::kOption;
  if (v6) status = enable(opened.get(), SOL_IPV6, IPV6_V6ONLY, options.ipv6_only);
  if (status == 0 && options.reuse_address) status = enable(opened.get(), SOL_SOCKET, SO_REUSEADDR);
  if (status == 0) status = set_options(opened.get(), options, !v6 || !options.ipv6_only, v6, step);
  // Without it they come one by one.
  if (status == 0 && options.gro) static_cast<void>(enable(opened.get(), SOL_UDP, UDP_GRO));
  if (status != 0) return status;

  *step = OpenStep::kBind;
  sockaddr_storage name;
  const socklen_t length = endpoint_to_sockaddr(address, v6, &name);
  if (bind(opened.get(), reinterpret_cast<sockaddr*>(&name), length) != 0) return -errno;
  status = local_endpoint(opened.get(), bound);
  if (status == 0) *fd = std::move(opened);
  return status;
}

int adopt_datagram_socket(int given, const DatagramOptions& options, OwnedFd* fd, Endpoint* bound,
                          bool* v6, OpenStep* step) {
  *step = OpenStep::kAdopt;
  SocketKind kind = {};
  int status = socket_kind(given, &kind);
  if (status != 0) return status;
  *v6 = kind.domain == AF_INET6;
  const bool ip = *v6 || kind.domain == AF_INET;
  if (!ip || kind.type != SOCK_DGRAM || kind.protocol != IPPROTO_UDP) return -EINVAL;
  status = local_endpoint(given, bound);
  if (status != 0) return status;
  if (bound->port == 0) return -EINVAL;
  int ipv6_only = 0;
  socklen_t length = sizeof(ipv6_only);
  if (*v6 && getsockopt(given, SOL_IPV6, IPV6_V6ONLY, &ipv6_only, &length) != 0) return -errno;
  status = set_options(given, options, ipv6_only == 0, *v6, step);
  if (status != 0) return status;
  // Off as well, if another program has set it: who does not ask for it takes each for one
  // datagram.
  static_cast<void>(enable(given, SOL_UDP, UDP_GRO, options.gro));
  const int flags = fcntl(given, F_GETFL);
  if (flags < 0 || fcntl(given, F_SETFL, flags | O_NONBLOCK) != 0) return -errno;
  if (fcntl(given, F_SETFD, FD_CLOEXEC) != 0) return -errno;
  fd->reset(given);
  return 0;
}

struct ReceiveBuffers::Headers {
  mmsghdr messages[kBatch];
  iovec slots[kBatch];
  sockaddr_storage sources[kBatch];
  alignas(cmsghdr) uint8_t controls[kBatch][kControl];
};

void ReceiveBuffers::Free::operator()(void* memory) const { free(memory); }

bool ReceiveBuffers::allocate() {
  data_.reset(static_cast<uint8_t*>(malloc(kBatch * kStride)));
  headers_.reset(static_cast<Headers*>(malloc(sizeof(Headers))));
  if (data_ == nullptr || headers_ == nullptr) return false;
  memset(headers_.get(), 0, sizeof(Headers));
  return true;
}

int ReceiveBuffers::receive_batch(int fd, size_t limit, Datagram (&batch)[kBatch]) {
  for (unsigned i = 0; i < kBatch; i++) {
    headers_->slots[i] = {data_.get() + i * kStride, limit};
    msghdr& header = headers_->messages[i].msg_hdr;
    header.msg_name = &headers_->sources[i];
    header.msg_namelen = sizeof(sockaddr_storage);
    header.msg_iov = &headers_->slots[i];
    header.msg_iovlen = 1;
    header.msg_control = headers_->controls[i];
    header.msg_controllen = kControl;
  }
  const int count = recvmmsg(fd, headers_->messages, kBatch, MSG_DONTWAIT | MSG_TRUNC, nullptr);
  if (count < 0) return -errno;
  uint32_t offset = 0;
  for (int i = 0; i < count; i++) {
    const mmsghdr& message = headers_->messages[i];
    Datagram& datagram = batch[i];
    endpoint_from_bytes(reinterpret_cast<const uint8_t*>(&headers_->sources[i]),
                        message.msg_hdr.msg_namelen, &datagram.source);
    // Of control messages that did not fit, none is believed.
    Control control = {};
    if ((message.msg_hdr.msg_flags & MSG_CTRUNC) == 0) {
      parse_control(headers_->controls[i], message.msg_hdr.msg_controllen, &control);
    }
    datagram.destination = control.destination;
    datagram.drops = control.drops;
    datagram.segment = control.segment;
    datagram.size = message.msg_len;
    datagram.kept = message.msg_len < limit ? message.msg_len : static_cast<uint32_t>(limit);
    datagram.offset = offset;
    offset += datagram.kept;
  }
  return count;
}

void ReceiveBuffers::copy_batch(const Datagram* batch, size_t count, uint8_t* to) const {
  for (size_t i = 0; i < count; i++) {
    // Where all are empty there is no memory to copy to, and memcpy(3) takes no null even for that.
    if (batch[i].kept == 0) continue;
    memcpy(to + batch[i].offset, data_.get() + i * kStride, batch[i].kept);
  }
}

int send_datagram(int fd, bool v6, const Payload& payload, const Endpoint& to,
                  const Endpoint& source) {
  const size_t segment = payload.segment;
  if (segment == 0 || payload.length <= segment) {
    return send_once(fd, v6, payload.data, payload.length, 0, to, source);
  }
  // What is too long for one packet is the kernel's to refuse.
  size_t many = std::clamp<size_t>(kMostTogether / segment, 1, kMostSegments);
  int status = 0;
  for (size_t at = 0; at < payload.length && status == 0;) {
    const size_t left = payload.length - at;
    size_t length = left < many * segment ? left : many * segment;
    status = send_once(fd, v6, payload.data + at, length, segment, to, source);
    if (many > 1 && is_segment_refusal(status)) {
      many = 1;
      status = 0;
    } else {
      at += length;
    }
  }
  return status;
}

int send_from_alias(int fd, bool v6, const Payload& payload, const Endpoint& to,
                    const Endpoint& source) {
  if (source.family == 4) return send_datagram(fd, v6, payload, to, source);
  int status = set_freebind(fd, true);
  if (status != 0) return status;
  status = send_datagram(fd, v6, payload, to, source);
  set_freebind(fd, false);
  return status;
}

}  // namespace original_dst
