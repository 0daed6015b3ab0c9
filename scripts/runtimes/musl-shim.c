// What Debian's libstdc++ and libgcc ask of glibc beyond what musl has. Bun's musl build wants those two libraries,
// and Debian has them for glibc only.
#include <locale.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded;
unsigned __cpu_model[4];

size_t strftime_l(char *, size_t, const char *, const struct tm *, locale_t);

unsigned arc4random(void) {
  unsigned value;
  return getrandom(&value, sizeof value, 0) == sizeof value ? value : 4;
}

size_t __strftime_l(char *to, size_t size, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(to, size, format, time, locale);
}

int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library) {
  (void)destroy, (void)object, (void)library;
  return 0;
}

int _dl_find_object(void *address, void *result) {
  (void)address, (void)result;
  return -1;
}

int __cpu_indicator_init(void) { return 0; }
