#include "names/host_name.h"

namespace original_dst {

namespace {

constexpr size_t kLongestLabel = 63;

bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

uint8_t lower(uint8_t byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte - 'A' + 'a') : byte;
}

bool in_label(uint8_t byte) {
  return (byte >= 'a' && byte <= 'z') || is_digit(byte) || byte == '-' || byte == '_';
}

// Of a label in lower case: digits alone, or "0x" with hexadecimal ones, if any.
bool is_number(const char* label, size_t length) {
  const bool hexadecimal = length >= 2 && label[0] == '0' && label[1] == 'x';
  for (size_t i = hexadecimal ? 2 : 0; i < length; i++) {
    const auto byte = static_cast<uint8_t>(label[i]);
    if (!is_digit(byte) && !(hexadecimal && byte >= 'a' && byte <= 'f')) return false;
  }
  return true;
}

}  // namespace

size_t host_name(const uint8_t* text, size_t length, char* name) {
  if (length > 0 && text[length - 1] == '.') length--;
  if (length == 0 || length > kLongestName) return 0;
  size_t label = 0;  // where it begins
  for (size_t i = 0; i < length; i++) {
    const uint8_t byte = lower(text[i]);
    name[i] = static_cast<char>(byte);
    if (byte == '.') {
      if (i == label) return 0;
      label = i + 1;
    } else if (!in_label(byte) || i - label >= kLongestLabel) {
      return 0;
    }
  }
  return label == length || is_number(name + label, length - label) ? 0 : length;
}

size_t authority_name(const uint8_t* text, size_t length, char* name) {
  size_t host = 0;
  while (host < length && text[host] != ':') host++;
  if (host < length) {
    const size_t digits = length - host - 1;
    if (digits == 0 || digits > 5) return 0;
    for (size_t i = host + 1; i < length; i++) {
      if (!is_digit(text[i])) return 0;
    }
  }
  return host_name(text, host, name);
}

}  // namespace original_dst
