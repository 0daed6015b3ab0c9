#include "relay/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

#include "socket/socket_options.h"

namespace original_dst {

namespace {

// One turn, so that a fast stream does not starve the thread's other relays.
constexpr size_t kTurn = size_t{1024} * 1024;

// A flow that moved less than this between two pauses of its source is copied: recv(2) tells with
// a short answer that there is no more, where splice(2) has to be called again to say EAGAIN.
constexpr size_t kBulk = FlowTools::kScratchSize;

// Room for what follows the bytes: the end as a rule, an urgent byte, or what has come meanwhile.
constexpr size_t kSecondRead = size_t{4} * 1024;

}  // namespace

Flow::~Flow() { free(held_); }

void Flow::attach(int source, int sink, bool fresh_sink) {
  source_ = source;
  sink_ = sink;
  fresh_sink_ = fresh_sink;
}

// TCP_NODELAY: the sender has chosen its segments already; holding back the small ones here only
// adds the receiver's delayed acknowledgement to each. The first bytes of a connection are never
// held back, and for many a connection they are the only ones. Refused by sockets that are not TCP.
void Flow::undelay() {
  if (undelayed_ || (fresh_sink_ && moved_ == 0 && !spoken_)) return;
  const int on = 1;
  setsockopt(sink_, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
  undelayed_ = true;
}

void Flow::replace_source(int source) {
  source_ = source;
  readable_ = false;
  thorough_ = false;
  urgent_ = false;
}

void Flow::replace_sink(int sink) {
  sink_ = sink;
  writable_ = true;
  spoken_ = false;
}

int Flow::hold(const void* bytes, size_t length) {
  if (length == 0) return 0;
  held_ = static_cast<uint8_t*>(malloc(length));
  if (held_ == nullptr) return -ENOMEM;
  memcpy(held_, bytes, length);
  held_at_ = 0;
  held_end_ = length;
  return 0;
}

void Flow::source_ready(bool thorough, bool urgent) {
  readable_ = true;
  thorough_ |= thorough;
  urgent_ |= urgent;
  // splice(2) does not get past urgent data.
  if (urgent_) bulk_ = false;
}

bool Flow::fail(int error, bool sink) {
  error_ = error;
  failed_sink_ = sink;
  return false;
}

bool Flow::send_held() {
  undelay();
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (held_urgent_ ? MSG_OOB : 0);
  const ssize_t sent = send(sink_, held_ + held_at_, held_end_ - held_at_, flags);
  if (sent >= 0) {
    moved_ += static_cast<size_t>(sent);
    held_at_ += static_cast<size_t>(sent);
  } else if (errno == EAGAIN) {
    writable_ = false;
  } else if (held_urgent_ && errno == EOPNOTSUPP) {
    // The sink is of a kind that knows no urgent data, whose reader would never ask for the byte.
    held_at_ = held_end_;
  } else if (errno != EINTR) {
    return fail(errno, true);
  }
  if (held_at_ == held_end_) {
    free(held_);
    held_ = nullptr;
    held_urgent_ = false;
  }
  return true;
}

bool Flow::drain_pipe() {
  undelay();
  // No SPLICE_F_MORE: it would keep the last segment back for 200 ms.
  const ssize_t sent = splice(pipe_.read.get(), nullptr, sink_, nullptr, in_pipe_,
                              SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (sent > 0) {
    moved_ += static_cast<size_t>(sent);
    in_pipe_ -= static_cast<size_t>(sent);
    return true;
  }
  if (sent == 0) return fail(EIO, true);
  if (errno == EINTR) return true;
  if (errno == EAGAIN) {
    writable_ = false;
    return true;
  }
  if (errno != EINVAL || refused_) return fail(errno, true);
  // This sink takes no splice. The bytes are in the pipe already: bring them back to user memory.
  refused_ = true;
  bulk_ = false;
  held_ = static_cast<uint8_t*>(malloc(in_pipe_));
  if (held_ == nullptr) return fail(ENOMEM, true);
  const ssize_t got = ::read(pipe_.read.get(), held_, in_pipe_);
  if (got != static_cast<ssize_t>(in_pipe_)) return fail(EIO, true);
  held_at_ = 0;
  held_end_ = in_pipe_;
  in_pipe_ = 0;
  return true;
}

// Only ever into an empty pipe: then EAGAIN speaks of the source. A pipe that holds something can
// be full with one byte in each of its slots, and says EAGAIN for that too.
bool Flow::fill_pipe(FlowTools& tools) {
  if (!pipe_.valid()) {
    pipe_ = tools.pipes.borrow();
    if (!pipe_.valid()) return copy(tools);
  }
  const ssize_t got = splice(source_, nullptr, pipe_.write.get(), nullptr, pipe_.capacity,
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (got > 0) {
    in_pipe_ = static_cast<size_t>(got);
    spliced_ += in_pipe_;
    return true;
  }
  if (got == 0) {
    // The end, or urgent data with the end behind it: recv(2) tells the two apart.
    source_ready(true, at_urgent_mark(source_));
    bulk_ = false;
    return true;
  }
  if (errno == EINTR) return true;
  if (errno == EAGAIN) {
    // Also in front of urgent data, which epoll is about to report.
    readable_ = false;
    bulk_ = spliced_ >= kBulk;
    spliced_ = 0;
    return true;
  }
  if (errno != EINVAL) return fail(errno, false);
  refused_ = true;
  bulk_ = false;
  return true;
}

// recv(2). Returns the bytes, and notes what else it says of the source.
size_t Flow::read(uint8_t* to, size_t room) {
  const ssize_t got = recv(source_, to, room, MSG_DONTWAIT);
  if (got > 0) return static_cast<size_t>(got);
  if (got < 0 && errno == EINTR) return 0;
  if (met_ != 0) {
    broken_ = met_;
  } else if (got == 0) {
    ended_ = true;
  } else if (errno == EAGAIN) {
    readable_ = false;
  } else {
    broken_ = errno;
  }
  return 0;
}

// The same twice, in one system call: the bytes, and the end that has come along with them. A short
// read alone does not say that the end is next: there may be an urgent byte before it.
size_t Flow::read_twice(uint8_t* to, size_t room) {
  if (met_ != 0 || room <= kSecondRead) return read(to, room);
  uint8_t* const second = to + (room - kSecondRead);
  iovec parts[] = {{to, room - kSecondRead}, {second, kSecondRead}};
  mmsghdr reads[2] = {};
  for (int i = 0; i < 2; i++) {
    reads[i].msg_hdr.msg_iov = &parts[i];
    reads[i].msg_hdr.msg_iovlen = 1;
  }
  const int count = recvmmsg(source_, reads, 2, MSG_DONTWAIT, nullptr);
  if (count < 0 && errno != EAGAIN && errno != EINTR) {
    // Unlike recv(2) it tells an error ahead of the bytes that came before it, and takes it along.
    met_ = errno;
  } else if (count < 0) {
    readable_ = errno == EINTR;
  }
  if (count <= 0) return 0;
  // What has ended the second one, if it is missing, is told again to the next.
  const size_t first = reads[0].msg_len;
  const size_t more = count == 2 ? reads[1].msg_len : 0;
  ended_ = first == 0 || (count == 2 && more == 0);
  memmove(to + first, second, more);
  return first + more;
}

// All that the source has, in one send(2): if its end is there too, the last segment carries the
// FIN, and the peer has one packet to handle and to answer in place of two.
//
// Urgent data is one byte at a mark in the stream. With SO_OOBINLINE recv(2) stops in front of the
// mark, and started there reads on past it: so at the mark one byte is read, and goes on as urgent.
// Should it not be known yet that there is a mark, the byte goes on as any other.
bool Flow::copy(FlowTools& tools) {
  const bool at_mark = urgent_ && at_urgent_mark(source_);
  const size_t room = at_mark ? 1 : FlowTools::kScratchSize;
  size_t length = 0;
  do {
    if (length > 0 && urgent_ && at_urgent_mark(source_)) break;
    uint8_t* const to = tools.scratch + length;
    length += thorough_ && !urgent_ ? read_twice(to, room - length) : read(to, room - length);
  } while (thorough_ && readable_ && !ended_ && broken_ == 0 && length < room);
  if (length == 0) return true;
  if (at_mark) {
    held_urgent_ = true;
    return hold(tools.scratch, length) == 0 || fail(ENOMEM, true);
  }
  if (length == FlowTools::kScratchSize) {
    bulk_ = !refused_ && !urgent_;
  } else if (!thorough_) {
    // Whatever arrives from now on makes a new edge.
    readable_ = false;
  }
  undelay();
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (ended_ ? MSG_MORE : 0);
  size_t at = 0;
  while (at < length) {
    const ssize_t sent = send(sink_, tools.scratch + at, length - at, flags);
    if (sent >= 0) {
      at += static_cast<size_t>(sent);
      moved_ += static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      writable_ = false;
      return hold(tools.scratch + at, length - at) == 0 || fail(ENOMEM, true);
    } else if (errno != EINTR) {
      return fail(errno, true);
    }
  }
  return true;
}

bool Flow::finish(bool last) {
  // close(2) sends the FIN of a socket that nobody else has.
  if (last && fresh_sink_) return true;
  if (shutdown(sink_, SHUT_WR) == 0) return true;
  if (errno != ENOTCONN) return fail(errno, true);
  // The connection is over: by an error, or because both sides had sent FIN before, ours by the
  // program that handed the socket over.
  const int error = take_error(sink_);
  return error == 0 || fail(error, true);
}

void Flow::return_pipe(FlowTools& tools) {
  if (pipe_.valid()) tools.pipes.give_back(std::move(pipe_));
}

Flow::State Flow::pump(FlowTools& tools, bool last) {
  const uint64_t turn_over = moved_ + kTurn;
  while (!done_) {
    bool ok = true;
    if (held_ != nullptr || in_pipe_ > 0) {
      if (!writable_) return State::kWaiting;
      ok = held_ != nullptr ? send_held() : drain_pipe();
    } else if (broken_ != 0) {
      ok = fail(broken_, false);
    } else if (ended_) {
      ok = finish(last);
      done_ = ok;
    } else if (!readable_) {
      return_pipe(tools);
      return State::kWaiting;
    } else if (moved_ >= turn_over) {
      return_pipe(tools);
      return State::kMore;
    } else {
      ok = bulk_ ? fill_pipe(tools) : copy(tools);
    }
    if (!ok) return State::kFailed;
  }
  return_pipe(tools);
  return State::kDone;
}

void Flow::release(FlowTools& tools) {
  if (in_pipe_ > 0) {
    tools.pipes.discard(std::move(pipe_));
  } else {
    return_pipe(tools);
  }
}

}  // namespace original_dst
