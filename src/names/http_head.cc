#include "names/http_head.h"

#include <string.h>

#include <initializer_list>

#include "names/host_name.h"

namespace original_dst {

namespace {

// The longest registered one has 17 letters (UPDATEREDIRECTREF).
constexpr size_t kLongestMethod = 32;
constexpr char kVersion[] = "HTTP/";
constexpr size_t kVersionLength = sizeof("HTTP/1.1") - 1;

struct Text {
  const uint8_t* bytes;
  size_t length;
};

bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }
bool is_blank(uint8_t byte) { return byte == ' ' || byte == '\t'; }
uint8_t lower(uint8_t byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte - 'A' + 'a') : byte;
}

// RFC 9110, section 5.6.2
bool in_token(uint8_t byte) {
  return (lower(byte) >= 'a' && lower(byte) <= 'z') || is_digit(byte) ||
         (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != nullptr);
}

bool is(const Text& text, const char* word) {
  if (text.length != strlen(word)) return false;
  for (size_t i = 0; i < text.length; i++) {
    if (lower(text.bytes[i]) != static_cast<uint8_t>(word[i])) return false;
  }
  return true;
}

// What a head says of itself, up to its last line.
struct Head {
  bool strange = false;  // not as RFC 9112 has it: no name
  bool old = false;      // HTTP/1.0
  Text target = {nullptr, 0};
  bool connect = false;
  size_t hosts = 0;
  Text host = {nullptr, 0};
  size_t lengths = 0;
  size_t codings = 0;
};

// A line without its end. False: its end is not there yet.
bool next_line(const uint8_t* bytes, size_t size, size_t* at, Text* line, Head* head) {
  const auto* const end = static_cast<const uint8_t*>(memchr(bytes + *at, '\n', size - *at));
  if (end == nullptr) return false;
  *line = {bytes + *at, static_cast<size_t>(end - bytes) - *at};
  *at += line->length + 1;
  if (line->length > 0 && line->bytes[line->length - 1] == '\r') {
    line->length--;
  } else {
    head->strange = true;
  }
  return true;
}

// The line of a request, or false where it is none.
bool read_request_line(const uint8_t* bytes, const Text& line, FirstBytes* first, Head* head) {
  size_t method = 0;
  while (method < line.length && in_token(line.bytes[method])) method++;
  if (method == 0 || line.length < method + 1 + kVersionLength) return false;
  const uint8_t* const version = line.bytes + line.length - kVersionLength;
  if (line.bytes[method] != ' ' || version[-1] != ' ') return false;
  if (memcmp(version, kVersion, sizeof(kVersion) - 1) != 0) return false;
  if (!is_digit(version[5]) || version[6] != '.' || !is_digit(version[7])) return false;
  if (version[5] != '1' || version[7] > '1') head->strange = true;
  head->old = version[7] == '0';
  head->connect = is({line.bytes, method}, "connect");
  first->method_at = static_cast<uint32_t>(line.bytes - bytes);
  first->method_length = static_cast<uint16_t>(method);
  const uint8_t* const target = line.bytes + method + 1;
  // There may be no target at all between the two spaces, or one space for both.
  head->target = {target, target < version ? static_cast<size_t>(version - 1 - target) : 0};
  first->target_at = static_cast<uint32_t>(target - bytes);
  first->target_length = static_cast<uint32_t>(head->target.length);
  if (head->target.length == 0) head->strange = true;
  for (size_t i = 0; i < head->target.length; i++) {
    if (target[i] <= ' ' || target[i] > '~') head->strange = true;
  }
  return true;
}

void read_field(const Text& line, Head* head) {
  size_t name = 0;
  while (name < line.length && in_token(line.bytes[name])) name++;
  // Also a folded line, which begins with a blank, and a blank ahead of the colon.
  if (name == 0 || name == line.length || line.bytes[name] != ':') {
    head->strange = true;
    return;
  }
  for (size_t i = name; i < line.length; i++) {
    const uint8_t byte = line.bytes[i];
    if ((byte < ' ' && byte != '\t') || byte == 0x7f) head->strange = true;
  }
  Text value = {line.bytes + name + 1, line.length - name - 1};
  while (value.length > 0 && is_blank(value.bytes[0])) value = {value.bytes + 1, value.length - 1};
  while (value.length > 0 && is_blank(value.bytes[value.length - 1])) value.length--;
  const Text field = {line.bytes, name};
  if (is(field, "host")) {
    head->hosts++;
    head->host = value;
  } else if (is(field, "content-length")) {
    head->lengths++;
    if (value.length == 0) head->strange = true;
    for (size_t i = 0; i < value.length; i++) {
      if (!is_digit(value.bytes[i])) head->strange = true;
    }
  } else if (is(field, "transfer-encoding")) {
    head->codings++;
    if (!is(value, "chunked")) head->strange = true;
  }
}

// The authority of an absolute-form target, or the whole of CONNECT's; false where there is none.
bool authority_of(const Head& head, Text* authority) {
  *authority = head.target;
  if (head.connect) return true;
  for (const char* const scheme : {"http://", "https://", "ws://", "wss://"}) {
    const size_t length = strlen(scheme);
    if (head.target.length < length || !is({head.target.bytes, length}, scheme)) continue;
    *authority = {head.target.bytes + length, head.target.length - length};
    for (size_t i = 0; i < authority->length; i++) {
      const uint8_t byte = authority->bytes[i];
      if (byte == '/' || byte == '?' || byte == '#') authority->length = i;
    }
    return true;
  }
  return false;
}

size_t name_of(const Head& head, char* name) {
  // Where its body ends must be beyond doubt too: what follows it is the next request.
  if (head.strange || head.hosts > 1 || head.lengths + head.codings > 1) return 0;
  if (head.old && head.codings > 0) return 0;
  Text authority = {nullptr, 0};
  if (authority_of(head, &authority)) {
    const size_t length = authority_name(authority.bytes, authority.length, name);
    if (head.hosts == 0) return head.old ? length : 0;
    char host[kLongestName];
    if (authority_name(head.host.bytes, head.host.length, host) != length) return 0;
    return memcmp(host, name, length) == 0 ? length : 0;
  }
  const bool to_all = is(head.target, "*");
  if (head.hosts == 0 || (head.target.bytes[0] != '/' && !to_all)) return 0;
  return authority_name(head.host.bytes, head.host.length, name);
}

// Is what is there of the first line no beginning of a request? Then its end is not waited for.
bool is_no_request(const uint8_t* bytes, size_t size) {
  size_t method = 0;
  while (method < size && in_token(bytes[method])) method++;
  if (method > kLongestMethod || (method < size && bytes[method] != ' ')) return true;
  for (size_t i = method; i < size && bytes[i] != '\n'; i++) {
    if (bytes[i] < ' ' && !is_blank(bytes[i]) && bytes[i] != '\r') return true;
  }
  return method == 0 && size > 0;
}

}  // namespace

size_t parse_http_head(const uint8_t* bytes, size_t size, FirstBytes* first) {
  Head head;
  size_t at = 0;
  // Empty lines ahead of a request are to be overlooked, which not everybody does.
  while (at < size && (bytes[at] == '\r' || bytes[at] == '\n')) at++;
  if (at > 0) head.strange = true;
  if (is_no_request(bytes + at, size - at)) return 0;
  Text line;
  if (!next_line(bytes, size, &at, &line, &head)) return size + 1;
  if (!read_request_line(bytes, line, first, &head)) return 0;
  first->protocol = kHttp;
  for (;;) {
    if (!next_line(bytes, size, &at, &line, &head)) return size + 1;
    if (line.length == 0) break;
    read_field(line, &head);
  }
  first->name_length = static_cast<uint8_t>(name_of(head, first->name));
  return 0;
}

}  // namespace original_dst
