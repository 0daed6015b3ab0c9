// sources: src/conntrack/conntrack_message.cc
// Any answer is refused or read within its bounds; every question is a message that says its own
// length.
#include "conntrack/conntrack_message.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "test/fuzz/input.h"

namespace {

constexpr uint32_t kSequence = 7;

void check(bool holds) {
  if (!holds) abort();
}

void check_answer(const std::vector<uint8_t>& message) {
  original_dst::ConntrackAnswer answer;
  const int status =
      original_dst::parse_conntrack_answer(message.data(), message.size(), kSequence, &answer);
  check(status <= 0);
  if (status == 0) check(answer.original.family == 4 || answer.original.family == 6);
}

void check_deletion(const std::vector<uint8_t>& message) {
  original_dst::ConntrackDeletion deletion;
  const int status =
      original_dst::parse_conntrack_deletion(message.data(), message.size(), &deletion);
  check(status == 0 || status == -EBADMSG);
  if (status != 0) return;
  for (const original_dst::ConntrackDirection& direction : deletion.directions) {
    check(direction.local.family == direction.peer.family);
  }
}

void check_question(Input& input) {
  original_dst::ConntrackQuestion question = {};
  const uint16_t family = input.flag() ? 4 : 6;
  for (original_dst::Endpoint* endpoint : {&question.local, &question.peer}) {
    endpoint->family = family;
    endpoint->port = input.number<uint16_t>();
    input.bytes(endpoint->bytes, family == 4 ? 4 : 16);
  }
  question.protocol = input.number<uint8_t>();
  question.zone = input.number<uint16_t>();
  uint8_t message[original_dst::kConntrackQuestionSize];
  const size_t length = original_dst::write_conntrack_question(question, kSequence, message);
  nlmsghdr header;
  memcpy(&header, message, sizeof(header));
  check(length <= sizeof(message) && header.nlmsg_len == length && header.nlmsg_seq == kSequence);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_answer(std::vector<uint8_t>(data, data + size));
  check_deletion(std::vector<uint8_t>(data, data + size));

  // The same bytes behind a header that lets them through to the attributes.
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(sizeof(header) + sizeof(nfgenmsg) + size);
  header.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
  header.nlmsg_seq = kSequence;
  std::vector<uint8_t> message(header.nlmsg_len);
  memcpy(message.data(), &header, sizeof(header));
  if (size > 0) memcpy(message.data() + sizeof(header) + sizeof(nfgenmsg), data, size);
  check_answer(message);
  header.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
  memcpy(message.data(), &header, sizeof(header));
  check_deletion(message);

  Input input(data, size);
  check_question(input);
  return 0;
}
