#include "conntrack/conntrack_message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

namespace original_dst {

namespace {

constexpr uint16_t kGet = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
// The kernel answers a GET with the message that it broadcasts for a new entry.
constexpr uint16_t kAnswer = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
constexpr uint16_t kDeleted = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;

constexpr size_t align(size_t length) { return (length + 3) & ~size_t{3}; }

// Appends to a buffer that is large enough for the longest question (v6, with a zone).
class Writer {
 public:
  explicit Writer(uint8_t* bytes) : bytes_(bytes) {}

  size_t length() const { return length_; }

  void put(const void* data, size_t size) {
    memcpy(bytes_ + length_, data, size);
    length_ = align(length_ + size);
  }

  void attribute(uint16_t type, const void* data, size_t size) {
    const nlattr header = {static_cast<uint16_t>(sizeof(nlattr) + size), type};
    put(&header, sizeof(header));
    put(data, size);
  }

  // Returns where the header is, for close().
  size_t open(uint16_t type) {
    const size_t at = length_;
    const nlattr header = {0, static_cast<uint16_t>(type | NLA_F_NESTED)};
    put(&header, sizeof(header));
    return at;
  }

  void close(size_t at) {
    const uint16_t size = static_cast<uint16_t>(length_ - at);
    memcpy(bytes_ + at, &size, sizeof(size));
  }

 private:
  uint8_t* bytes_;
  size_t length_ = 0;
};

// One netlink attribute, inside the bounds of the message that it was found in.
struct Attribute {
  uint16_t type;  // without the flag bits
  const uint8_t* data;
  size_t length;
};

// Walks a run of attributes; ends at the first one that does not fit.
class Attributes {
 public:
  Attributes(const uint8_t* bytes, size_t length) : bytes_(bytes), left_(length) {}

  bool next(Attribute* attribute) {
    nlattr header;
    if (left_ < sizeof(header)) return false;
    memcpy(&header, bytes_, sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > left_) return false;
    attribute->type = header.nla_type & NLA_TYPE_MASK;
    attribute->data = bytes_ + sizeof(header);
    attribute->length = header.nla_len - sizeof(header);
    const size_t step = align(header.nla_len);
    left_ = step < left_ ? left_ - step : 0;
    bytes_ += left_ > 0 ? step : 0;
    return true;
  }

 private:
  const uint8_t* bytes_;
  size_t left_;
};

// The two ends of a tuple.
struct Tuple {
  Endpoint source;
  Endpoint destination;
  uint8_t protocol;
};

void read_address(const Attribute& a, uint16_t family, Endpoint* to) {
  const size_t size = family == 4 ? 4 : 16;
  if (a.length < size) return;
  to->family = family;
  memcpy(to->bytes, a.data, size);
}

void read_addresses(const Attribute& ip, Tuple* tuple) {
  Attributes addresses(ip.data, ip.length);
  for (Attribute a; addresses.next(&a);) {
    if (a.type == CTA_IP_V4_SRC) read_address(a, 4, &tuple->source);
    if (a.type == CTA_IP_V4_DST) read_address(a, 4, &tuple->destination);
    if (a.type == CTA_IP_V6_SRC) read_address(a, 6, &tuple->source);
    if (a.type == CTA_IP_V6_DST) read_address(a, 6, &tuple->destination);
  }
}

bool read_port(const Attribute& a, Endpoint* to) {
  uint16_t port;
  if (a.length < sizeof(port)) return false;
  memcpy(&port, a.data, sizeof(port));
  to->port = ntohs(port);
  return true;
}

// True when there is a destination port.
bool read_ports(const Attribute& proto, Tuple* tuple) {
  bool port = false;
  Attributes ports(proto.data, proto.length);
  for (Attribute a; ports.next(&a);) {
    if (a.type == CTA_PROTO_NUM && a.length >= 1) tuple->protocol = *a.data;
    if (a.type == CTA_PROTO_SRC_PORT) read_port(a, &tuple->source);
    if (a.type == CTA_PROTO_DST_PORT) port = read_port(a, &tuple->destination);
  }
  return port;
}

// False unless the destination is there, both halves of it.
bool read_tuple(const Attribute& attribute, Tuple* tuple) {
  *tuple = {};
  bool port = false;
  Attributes halves(attribute.data, attribute.length);
  for (Attribute a; halves.next(&a);) {
    if (a.type == CTA_TUPLE_IP) read_addresses(a, tuple);
    if (a.type == CTA_TUPLE_PROTO) port = read_ports(a, tuple);
  }
  return port && tuple->destination.family != 0;
}

// Of a connection that was under way when conntrack first saw it (nf_conntrack_tcp_loose), as after
// a flush: tcp_new() knows no window then, and lets all pass.
bool picked_up(const Attribute& a) {
  nf_ct_tcp_flags flags;
  if (a.length < sizeof(flags)) return true;
  memcpy(&flags, a.data, sizeof(flags));
  return (flags.flags & IP_CT_TCP_FLAG_BE_LIBERAL) != 0;
}

bool had_handshake(const Attribute& protocol_info) {
  uint8_t state = TCP_CONNTRACK_NONE;
  bool from_its_beginning[2] = {};
  Attributes outer(protocol_info.data, protocol_info.length);
  for (Attribute tcp; outer.next(&tcp);) {
    if (tcp.type != CTA_PROTOINFO_TCP) continue;
    Attributes inner(tcp.data, tcp.length);
    for (Attribute a; inner.next(&a);) {
      if (a.type == CTA_PROTOINFO_TCP_STATE && a.length >= 1) state = *a.data;
      if (a.type == CTA_PROTOINFO_TCP_FLAGS_ORIGINAL) from_its_beginning[0] = !picked_up(a);
      if (a.type == CTA_PROTOINFO_TCP_FLAGS_REPLY) from_its_beginning[1] = !picked_up(a);
    }
  }
  return from_its_beginning[0] && from_its_beginning[1] && state >= TCP_CONNTRACK_ESTABLISHED &&
         state <= TCP_CONNTRACK_CLOSE_WAIT;
}

int read_entry(const uint8_t* bytes, size_t length, ConntrackAnswer* answer) {
  bool found = false;
  Attributes entry(bytes, length);
  for (Attribute a; entry.next(&a);) {
    if (a.type == CTA_TUPLE_ORIG) {
      Tuple tuple;
      found = read_tuple(a, &tuple);
      answer->original = tuple.destination;
    }
    if (a.type == CTA_TUPLE_REPLY) {
      Tuple tuple;
      if (read_tuple(a, &tuple)) answer->client = tuple.destination;
    }
    if (a.type == CTA_TIMEOUT && a.length >= sizeof(answer->seconds)) {
      memcpy(&answer->seconds, a.data, sizeof(answer->seconds));
      answer->seconds = ntohl(answer->seconds);
    }
    if (a.type == CTA_PROTOINFO) answer->handshake = had_handshake(a);
  }
  return found ? 0 : -EBADMSG;
}

}  // namespace

size_t write_conntrack_question(const ConntrackQuestion& question, uint32_t sequence,
                                uint8_t (&message)[kConntrackQuestionSize]) {
  const bool v4 = question.local.family == 4;
  const size_t address_size = v4 ? 4 : 16;
  const uint16_t local_port = htons(question.local.port);
  const uint16_t peer_port = htons(question.peer.port);
  const uint16_t zone = htons(question.zone);

  memset(message, 0, sizeof(message));
  Writer writer(message);
  nlmsghdr header = {};
  header.nlmsg_type = kGet;
  header.nlmsg_flags = NLM_F_REQUEST;
  header.nlmsg_seq = sequence;
  writer.put(&header, sizeof(header));
  nfgenmsg family = {};
  family.nfgen_family = static_cast<uint8_t>(v4 ? AF_INET : AF_INET6);
  family.version = NFNETLINK_V0;
  writer.put(&family, sizeof(family));

  const size_t tuple = writer.open(CTA_TUPLE_REPLY);
  const size_t ip = writer.open(CTA_TUPLE_IP);
  writer.attribute(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, question.local.bytes, address_size);
  writer.attribute(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, question.peer.bytes, address_size);
  writer.close(ip);
  const size_t proto = writer.open(CTA_TUPLE_PROTO);
  writer.attribute(CTA_PROTO_NUM, &question.protocol, sizeof(question.protocol));
  writer.attribute(CTA_PROTO_SRC_PORT, &local_port, sizeof(local_port));
  writer.attribute(CTA_PROTO_DST_PORT, &peer_port, sizeof(peer_port));
  writer.close(proto);
  writer.close(tuple);
  if (question.zone != 0) writer.attribute(CTA_ZONE, &zone, sizeof(zone));

  header.nlmsg_len = static_cast<uint32_t>(writer.length());
  memcpy(message, &header, sizeof(header));
  return writer.length();
}

int parse_conntrack_answer(const uint8_t* message, size_t length, uint32_t sequence,
                           ConntrackAnswer* answer) {
  *answer = {};
  nlmsghdr header;
  if (length < sizeof(header)) return -EBADMSG;
  memcpy(&header, message, sizeof(header));
  if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > length) return -EBADMSG;
  if (header.nlmsg_seq != sequence) return -EBADMSG;
  const uint8_t* body = message + sizeof(header);
  const size_t body_length = header.nlmsg_len - sizeof(header);
  if (header.nlmsg_type == NLMSG_ERROR) {
    int32_t status;
    if (body_length < sizeof(status)) return -EBADMSG;
    memcpy(&status, body, sizeof(status));
    // 0 acknowledges, which nobody asked for.
    return status < 0 ? status : -EBADMSG;
  }
  if (header.nlmsg_type != kAnswer || body_length < sizeof(nfgenmsg)) return -EBADMSG;
  return read_entry(body + sizeof(nfgenmsg), body_length - sizeof(nfgenmsg), answer);
}

int parse_conntrack_deletion(const uint8_t* message, size_t length, ConntrackDeletion* deletion) {
  *deletion = {};
  nlmsghdr header;
  constexpr size_t start = sizeof(header) + sizeof(nfgenmsg);
  if (length < start) return -EBADMSG;
  memcpy(&header, message, sizeof(header));
  if (header.nlmsg_len < start || header.nlmsg_len > length) return -EBADMSG;
  if (header.nlmsg_type != kDeleted) return -EBADMSG;
  bool found[2] = {};
  Attributes entry(message + start, header.nlmsg_len - start);
  for (Attribute a; entry.next(&a);) {
    if (a.type == CTA_TIMEOUT) deletion->time_left = true;
    if (a.type != CTA_TUPLE_ORIG && a.type != CTA_TUPLE_REPLY) continue;
    const int direction = a.type == CTA_TUPLE_ORIG ? 0 : 1;
    Tuple tuple;
    found[direction] = read_tuple(a, &tuple) && tuple.source.family == tuple.destination.family;
    deletion->directions[direction] = {tuple.source, tuple.destination};
    deletion->protocol = tuple.protocol;
  }
  return found[0] && found[1] ? 0 : -EBADMSG;
}

}  // namespace original_dst
