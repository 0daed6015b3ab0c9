// A small fuzzer for where there is no libFuzzer: driver SECONDS SEED [INPUT]..., with the fuzzer
// of test/fuzz/ that it is linked to. Keeps the inputs that reach a new edge (g++
// -fsanitize-coverage=trace-pc), and makes the next ones of those. SECONDS are of CPU time: a busy
// machine gets the same work done. Inputs are in hexadecimal; one that breaks something is printed
// as such.
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kLongest = 4096;
// No input takes a tenth of that.
constexpr unsigned kStuckAfter = 60;
constexpr size_t kEdges = 1 << 16;

uint8_t seen[kEdges];
uintptr_t before;
bool is_new;
std::string current;

void tell() {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "input: ";
  for (const char byte : current) {
    text += kDigits[static_cast<uint8_t>(byte) >> 4];
    text += kDigits[byte & 15];
  }
  text += '\n';
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) _exit(1);
}

void stuck(int) {
  tell();
  _exit(1);
}

// xorshift64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}

  size_t below(size_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  uint64_t state_;
};

std::string changed(std::string input, const std::vector<std::string>& corpus, Random* random) {
  constexpr char kTelling[] = "\0\1\4\xff\x80\x16.: \r\n/";
  for (size_t changes = 1 + random->below(4); changes > 0; changes--) {
    const size_t at = random->below(input.size() + 1);
    const std::string& other = corpus[random->below(corpus.size())];
    switch (random->below(6)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << random->below(8));
        break;
      case 1:
        if (at < input.size()) input[at] = kTelling[random->below(sizeof(kTelling))];
        break;
      case 2:
        input.insert(at, 1, static_cast<char>(random->below(256)));
        break;
      case 3:
        input.erase(at, 1 + random->below(8));
        break;
      case 4:
        input.insert(at, input.substr(at, 1 + random->below(16)));
        break;
      default:
        if (!other.empty()) {
          const size_t from = random->below(other.size());
          input.replace(at, random->below(16), other, from, 1 + random->below(32));
        }
    }
  }
  if (input.size() > kLongest) input.resize(kLongest);
  return input;
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Does it reach what none has reached before?
bool run(const std::string& input) {
  current = input;
  is_new = false;
  before = 0;
  alarm(kStuckAfter);
  // A copy of its very size: what is read beyond it is nobody's.
  std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  return is_new;
}

std::string of_hexadecimal(const char* text) {
  std::string bytes;
  for (; text[0] != 0 && text[1] != 0; text += 2) {
    const char pair[] = {text[0], text[1], 0};
    bytes += static_cast<char>(strtoul(pair, nullptr, 16));
  }
  return bytes;
}

}  // namespace

// This file is compiled without the option that puts calls of it everywhere. The programs are not
// position-independent, so that an edge has the same number in each run.
extern "C" void __sanitizer_cov_trace_pc() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t* const edge = &seen[(here ^ before) % kEdges];
  before = here * 31;
  is_new = is_new || *edge == 0;
  *edge = 1;
}

int main(int count, char** arguments) {
  if (count < 3) return 2;
  __sanitizer_set_death_callback(tell);
  signal(SIGALRM, stuck);
  const double seconds = strtod(arguments[1], nullptr);
  Random random(strtoull(arguments[2], nullptr, 10));
  std::vector<std::string> corpus = {""};
  for (int at = 3; at < count; at++) corpus.push_back(of_hexadecimal(arguments[at]));
  for (const std::string& input : corpus) run(input);
  size_t runs = corpus.size();
  for (; (runs & 255) != 0 || cpu_seconds() < seconds; runs++) {
    std::string input = changed(corpus[random.below(corpus.size())], corpus, &random);
    if (run(input)) corpus.push_back(static_cast<std::string&&>(input));
  }
  printf("%zu inputs, %zu kept\n", runs, corpus.size());
  return 0;
}
