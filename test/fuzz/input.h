// Numbers and bytes out of a fuzzer's input, zeros when it is used up.
#ifndef ORIGINAL_DST_FUZZ_INPUT_H_
#define ORIGINAL_DST_FUZZ_INPUT_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  void bytes(void* to, size_t count) {
    const size_t taken = count < left_ ? count : left_;
    memset(to, 0, count);
    if (taken > 0) memcpy(to, data_, taken);
    data_ += taken;
    left_ -= taken;
  }

  template <typename T>
  T number() {
    T value;
    bytes(&value, sizeof(value));
    return value;
  }

  bool flag() { return (number<uint8_t>() & 1) != 0; }

 private:
  const uint8_t* data_;
  size_t left_;
};

#endif  // ORIGINAL_DST_FUZZ_INPUT_H_
