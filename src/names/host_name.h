// A DNS name as clients send it, in the one form in which names are compared.
#ifndef ORIGINAL_DST_NAMES_HOST_NAME_H_
#define ORIGINAL_DST_NAMES_HOST_NAME_H_

#include <stddef.h>
#include <stdint.h>

namespace original_dst {

// RFC 1035: 255 bytes on the wire.
constexpr size_t kLongestName = 253;

// Copies the name in lower case and without the one dot that may end it. Returns its length, or 0
// for what is no name: empty labels, labels of more than 63 bytes, anything but letters, digits,
// "-" and "_" in them (an internationalised name is an A-label by now), and a last label that is a
// number: getaddrinfo(3) and browsers take "1.2.3.4", "127.1" and "0x7f000001" for addresses.
size_t host_name(const uint8_t* text, size_t length, char* name);

// The same of "host" or "host:port". 0 also for an address in brackets.
size_t authority_name(const uint8_t* text, size_t length, char* name);

}  // namespace original_dst

#endif  // ORIGINAL_DST_NAMES_HOST_NAME_H_
