#include "names/client_hello.h"

#include <string.h>

#include <algorithm>

#include "names/host_name.h"

namespace original_dst {

namespace {

constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kMajorVersion = 3;
constexpr size_t kRecordHeader = 5;
constexpr size_t kLargestRecord = 16384;
constexpr size_t kMessageHeader = 4;
constexpr uint8_t kClientHello = 1;

enum Extension : uint16_t {
  kServerName = 0,
  kAlpn = 16,
  kSupportedVersions = 43,
  kEncryptedClientHello = 0xfe0d,
};

// The handshake messages in a sequence of records, whose borders they do not keep to.
class Handshake {
 public:
  Handshake(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}

  // Copies that many bytes, or skips them where `to` is null. False: need() says what is missing,
  // or broken() that this is no sequence of handshake records.
  bool take(size_t count, uint8_t* to) {
    while (count > 0) {
      if (at_ == record_end_ && !next_record()) return false;
      const size_t piece = std::min({count, record_end_ - at_, size_ - at_});
      if (piece == 0) return lack(std::min(record_end_, at_ + count));
      if (to != nullptr) {
        memcpy(to, bytes_ + at_, piece);
        to += piece;
      }
      at_ += piece;
      count -= piece;
    }
    return true;
  }

  size_t need() const { return need_; }
  bool broken() const { return broken_; }
  bool record_is_over() const { return at_ == record_end_; }

 private:
  bool next_record() {
    const uint8_t* const header = bytes_ + at_;
    const size_t left = size_ - at_;
    // As far as it is there: not more is waited for than tells that it is no record.
    broken_ =
        (left > 0 && header[0] != kHandshakeRecord) || (left > 1 && header[1] != kMajorVersion);
    if (broken_) return false;
    if (left < 2) return lack(size_ + 1);
    if (left < kRecordHeader) return lack(at_ + kRecordHeader);
    const size_t length = size_t{header[3]} << 8 | header[4];
    broken_ = length == 0 || length > kLargestRecord;
    if (broken_) return false;
    at_ += kRecordHeader;
    record_end_ = at_ + length;
    return true;
  }

  bool lack(size_t need) {
    need_ = need;
    return false;
  }

  const uint8_t* bytes_;
  size_t size_;
  size_t at_ = 0;
  size_t record_end_ = 0;
  size_t need_ = 0;
  bool broken_ = false;
};

// A part of the message, which is known to be there.
class Part {
 public:
  Part(Handshake* message, size_t length) : message_(message), left_(length) {}

  size_t left() const { return left_; }

  bool take(size_t count, uint8_t* to) {
    if (count > left_) return false;
    left_ -= count;
    return message_->take(count, to);
  }
  bool skip(size_t count) { return take(count, nullptr); }

  // A number of one or two bytes.
  bool number(size_t width, size_t* value) {
    uint8_t bytes[2] = {};
    if (!take(width, bytes)) return false;
    *value = width == 1 ? bytes[0] : size_t{bytes[0]} << 8 | bytes[1];
    return true;
  }

  // A vector of at least `least` bytes: its length, in one or two bytes, is taken.
  bool vector(size_t width, size_t least, size_t* length) {
    return number(width, length) && *length >= least && *length <= left_;
  }

  // One that fills the part.
  bool whole_vector(size_t width) {
    size_t length = 0;
    return vector(width, 1, &length) && length == left_;
  }

 private:
  Handshake* message_;
  size_t left_;
};

void note_version(size_t version, FirstBytes* first) {
  if (version < 0x0300 || version > 0x0304 || first->version_count == sizeof(first->versions))
    return;
  first->versions[first->version_count++] = static_cast<uint8_t>(version);
}

// RFC 6066, section 3: not more than one name of a kind, and host_name is the only kind.
bool read_server_name(Part* part, FirstBytes* first) {
  size_t kind = 0;
  size_t length = 0;
  if (!part->whole_vector(2) || !part->number(1, &kind) || kind != 0) return false;
  if (!part->vector(2, 1, &length) || length != part->left()) return false;
  uint8_t text[kLongestName + 1];
  if (length > sizeof(text)) return false;
  if (!part->take(length, text)) return false;
  first->name_length = static_cast<uint8_t>(host_name(text, length, first->name));
  return true;
}

// RFC 7301
bool read_alpn(Part* part, FirstBytes* first) {
  if (!part->whole_vector(2)) return false;
  const bool fits = part->left() <= sizeof(first->alpn);
  size_t at = 0;
  while (part->left() > 0) {
    size_t length = 0;
    if (!part->vector(1, 1, &length)) return false;
    if (fits) first->alpn[at++] = static_cast<uint8_t>(length);
    if (!part->take(length, fits ? first->alpn + at : nullptr)) return false;
    if (fits) at += length;
  }
  first->alpn_length = static_cast<uint16_t>(at);
  return true;
}

bool read_versions(Part* part, FirstBytes* first) {
  if (!part->whole_vector(1) || part->left() % 2 != 0) return false;
  first->version_count = 0;
  while (part->left() > 0) {
    size_t version = 0;
    if (!part->number(2, &version)) return false;
    note_version(version, first);
  }
  return true;
}

// The bit of an extension that is read; others may be there twice for all that it matters here.
uint8_t mark_of(size_t type) {
  switch (type) {
    case kServerName:
      return 1;
    case kAlpn:
      return 2;
    case kSupportedVersions:
      return 4;
    case kEncryptedClientHello:
      return 8;
    default:
      return 0;
  }
}

bool read_extension(size_t type, Part* part, FirstBytes* first) {
  switch (type) {
    case kServerName:
      return read_server_name(part, first);
    case kAlpn:
      return read_alpn(part, first);
    case kSupportedVersions:
      return read_versions(part, first);
    case kEncryptedClientHello:
      first->ech = 1;
      break;
    default:
      break;
  }
  return part->skip(part->left());
}

bool read_hello(Part* hello, Handshake* message, FirstBytes* first) {
  size_t version = 0;
  size_t length = 0;
  if (!hello->number(2, &version) || !hello->skip(32)) return false;
  if (!hello->vector(1, 0, &length) || length > 32 || !hello->skip(length)) return false;
  if (!hello->vector(2, 2, &length) || length % 2 != 0 || !hello->skip(length)) return false;
  if (!hello->vector(1, 1, &length) || !hello->skip(length)) return false;
  note_version(version, first);
  if (hello->left() == 0) return true;
  if (!hello->number(2, &length) || length != hello->left()) return false;
  uint8_t seen = 0;
  while (hello->left() > 0) {
    size_t type = 0;
    if (!hello->number(2, &type) || !hello->vector(2, 0, &length)) return false;
    const uint8_t mark = mark_of(type);
    if ((seen & mark) != 0) return false;
    seen |= mark;
    Part part(message, length);
    if (!read_extension(type, &part, first)) return false;
    // Read through `part`; here it is only counted.
    *hello = Part(message, hello->left() - length);
  }
  return true;
}

}  // namespace

bool may_be_client_hello(const uint8_t* bytes, size_t size) {
  return bytes[0] == kHandshakeRecord && (size < 2 || bytes[1] == kMajorVersion);
}

size_t parse_client_hello(const uint8_t* bytes, size_t size, FirstBytes* first) {
  if (size >= 2) first->protocol = kTls;
  Handshake message(bytes, size);
  uint8_t type = 0;
  uint8_t length[kMessageHeader - 1];
  if (!message.take(1, &type)) return message.broken() ? 0 : message.need();
  if (type != kClientHello) {
    first->protocol = kOther;
    return 0;
  }
  if (!message.take(sizeof(length), length)) return message.broken() ? 0 : message.need();
  const size_t whole = size_t{length[0]} << 16 | size_t{length[1]} << 8 | length[2];
  Handshake end = message;
  if (!end.take(whole, nullptr)) return end.broken() ? 0 : end.need();
  Part hello(&message, whole);
  // Whatever stands behind the hello in its last record is no part of a handshake as it should be.
  if (!read_hello(&hello, &message, first) || !end.record_is_over()) {
    memset(first, 0, offsetof(FirstBytes, name));
    first->protocol = kTls;
  }
  return 0;
}

}  // namespace original_dst
