// What C++ code expects of libstdc++, so that the addon does not link to it, nor to any other
// library: a binary without DT_NEEDED binds to the libc of the process that loads it, glibc or
// musl, and one file serves both. -static-libstdc++ was no way there: the archive brings symbol
// versions of the newest glibc that it was built against. What nothing calls is dropped by the
// linker (--gc-sections).
//
// Left out of sanitizer builds, whose own operator new must see every allocation.
#include <stdlib.h>

#include <new>
#include <string>

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,cert-dcl58-cpp,cert-dcl50-cpp)
// The names are the compiler's and the library's, which is the point.

namespace {

// Without exceptions there is nobody to throw to; a caller who can go on without the memory asks
// for it with std::nothrow.
void* allocate(size_t size) {
  void* memory = malloc(size != 0 ? size : 1);
  if (memory == nullptr) abort();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return malloc(size != 0 ? size : 1);
}
void* operator new[](size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return malloc(size != 0 ? size : 1);
}
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t /*size*/) noexcept { free(memory); }
void operator delete[](void* memory, size_t /*size*/) noexcept { free(memory); }

const std::nothrow_t std::nothrow{};

// The vtable entry of a pure virtual function; called only through a half-destroyed object.
extern "C" [[noreturn]] void __cxa_pure_virtual() { abort(); }

namespace std {

// The header declares std::string as compiled elsewhere; node-addon-api makes strings.
template class basic_string<char>;

// What the checks inside <string>, <vector>, <memory> and <functional> call.
// With _GLIBCXX_ASSERTIONS, an index beyond the end or a null pointer.
void __glibcxx_assert_fail(const char* /*file*/, int /*line*/, const char* /*function*/,
                           const char* /*condition*/) noexcept {
  abort();
}
void __throw_bad_alloc() { abort(); }
void __throw_bad_array_new_length() { abort(); }
void __throw_bad_function_call() { abort(); }
void __throw_length_error(const char* /*what*/) { abort(); }
void __throw_logic_error(const char* /*what*/) { abort(); }
void __throw_out_of_range(const char* /*what*/) { abort(); }
void __throw_out_of_range_fmt(const char* /*what*/, ...) { abort(); }

}  // namespace std

// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,cert-dcl58-cpp,cert-dcl50-cpp)
