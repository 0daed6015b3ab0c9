#include "relay/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <utility>

namespace original_dst {

namespace {

// One turn, so that a fast stream does not starve the thread's other relays.
constexpr size_t kTurn = size_t{1024} * 1024;

// A flow that moved less than this between two pauses of its source is copied: recv(2) tells with
// a short answer that there is no more, where splice(2) has to be called again to say EAGAIN.
constexpr size_t kBulk = FlowTools::kScratchSize;

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

Flow::~Flow() { free(held_); }

void Flow::attach(int source, int sink, bool fresh) {
  source_ = source;
  sink_ = sink;
  fresh_ = fresh;
}

// TCP_NODELAY: the sender has chosen its segments already; holding back the small ones here only
// adds the receiver's delayed acknowledgement to each. The first bytes of a connection are never
// held back, and for many a connection they are the only ones. Refused by sockets that are not TCP.
void Flow::undelay() {
  if (undelayed_ || (fresh_ && moved_ == 0)) return;
  const int on = 1;
  setsockopt(sink_, SOL_TCP, TCP_NODELAY, &on, sizeof(on));
  undelayed_ = true;
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

void Flow::source_ready(bool thorough) {
  readable_ = true;
  thorough_ |= thorough;
}

Flow::Io Flow::fail(int error, bool sink) {
  error_ = error;
  failed_sink_ = sink;
  return Io::kFailed;
}

Flow::Io Flow::send_held() {
  undelay();
  const ssize_t sent =
      send(sink_, held_ + held_at_, held_end_ - held_at_, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno == EINTR) return Io::kOk;
    if (!would_block(errno)) return fail(errno, true);
    writable_ = false;
    return Io::kBlocked;
  }
  moved_ += static_cast<size_t>(sent);
  held_at_ += static_cast<size_t>(sent);
  if (held_at_ == held_end_) {
    free(held_);
    held_ = nullptr;
  }
  return Io::kOk;
}

Flow::Io Flow::drain_pipe() {
  undelay();
  // No SPLICE_F_MORE: it would keep the last segment back for 200 ms.
  const ssize_t sent = splice(pipe_.read.get(), nullptr, sink_, nullptr, in_pipe_,
                              SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (sent > 0) {
    moved_ += static_cast<size_t>(sent);
    in_pipe_ -= static_cast<size_t>(sent);
    return Io::kOk;
  }
  if (sent == 0) return fail(EIO, true);
  if (errno == EINTR) return Io::kOk;
  if (would_block(errno)) {
    writable_ = false;
    return Io::kBlocked;
  }
  if (errno != EINVAL || refused_) return fail(errno, true);
  // This sink takes no splice. The bytes are in the pipe already: bring them back to user memory.
  refused_ = true;
  bulk_ = false;
  held_ = static_cast<uint8_t*>(malloc(in_pipe_));
  if (held_ == nullptr) return fail(ENOMEM, true);
  const ssize_t got = read(pipe_.read.get(), held_, in_pipe_);
  if (got != static_cast<ssize_t>(in_pipe_)) return fail(EIO, true);
  held_at_ = 0;
  held_end_ = in_pipe_;
  in_pipe_ = 0;
  return Io::kOk;
}

// Only ever into an empty pipe: then EAGAIN speaks of the source. A pipe that holds something can
// be full with one byte in each of its slots, and says EAGAIN for that too.
Flow::Io Flow::fill_pipe(FlowTools& tools) {
  if (!pipe_.valid()) {
    pipe_ = tools.pipes.borrow();
    if (!pipe_.valid()) return copy(tools);
  }
  const ssize_t got = splice(source_, nullptr, pipe_.write.get(), nullptr, pipe_.capacity,
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (got > 0) {
    in_pipe_ = static_cast<size_t>(got);
    spliced_ += in_pipe_;
    return Io::kOk;
  }
  if (got == 0) {
    ended_ = true;
    return Io::kOk;
  }
  if (errno == EINTR) return Io::kOk;
  if (would_block(errno)) {
    readable_ = false;
    bulk_ = spliced_ >= kBulk;
    spliced_ = 0;
    return Io::kBlocked;
  }
  if (errno != EINVAL) return fail(errno, false);
  refused_ = true;
  bulk_ = false;
  return Io::kOk;
}

// All that the source has, in one send(2): if its end is there too, the last segment carries the
// FIN, and the peer has one packet to handle and to answer in place of two.
Flow::Io Flow::copy(FlowTools& tools) {
  size_t length = 0;
  do {
    const ssize_t got =
        recv(source_, tools.scratch + length, FlowTools::kScratchSize - length, MSG_DONTWAIT);
    if (got > 0) {
      length += static_cast<size_t>(got);
    } else if (got == 0) {
      ended_ = true;
    } else if (would_block(errno)) {
      readable_ = false;
    } else if (errno != EINTR) {
      broken_ = errno;
    }
  } while (thorough_ && readable_ && !ended_ && broken_ == 0 && length < FlowTools::kScratchSize);
  if (length == 0) return Io::kOk;
  if (length == FlowTools::kScratchSize) {
    bulk_ = !refused_;
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
    } else if (would_block(errno)) {
      writable_ = false;
      return hold(tools.scratch + at, length - at) == 0 ? Io::kBlocked : fail(ENOMEM, true);
    } else if (errno != EINTR) {
      return fail(errno, true);
    }
  }
  return Io::kOk;
}

Flow::Io Flow::finish(bool last) {
  // close(2) sends the FIN of a socket that nobody else has.
  if (last && fresh_) return Io::kOk;
  if (shutdown(sink_, SHUT_WR) == 0) return Io::kOk;
  if (errno != ENOTCONN) return fail(errno, true);
  // The connection is over: by an error, or because both sides had sent FIN before, ours by the
  // program that handed the socket over.
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(sink_, SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? Io::kOk : fail(error, true);
}

void Flow::return_pipe(FlowTools& tools) {
  if (pipe_.valid()) tools.pipes.give_back(std::move(pipe_));
}

Flow::State Flow::pump(FlowTools& tools, bool last) {
  const uint64_t turn_over = moved_ + kTurn;
  while (!done_) {
    Io result = Io::kOk;
    if (held_ != nullptr || in_pipe_ > 0) {
      if (!writable_) return State::kWaiting;
      result = held_ != nullptr ? send_held() : drain_pipe();
    } else if (broken_ != 0) {
      result = fail(broken_, false);
    } else if (ended_) {
      result = finish(last);
      done_ = result != Io::kFailed;
    } else if (!readable_) {
      return_pipe(tools);
      return State::kWaiting;
    } else if (moved_ >= turn_over) {
      return_pipe(tools);
      return State::kMore;
    } else {
      result = bulk_ ? fill_pipe(tools) : copy(tools);
    }
    if (result == Io::kFailed) return State::kFailed;
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
