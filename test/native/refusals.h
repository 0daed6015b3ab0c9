// System calls that the relay engine is refused, by seccomp(2): kernels and limits that are not at
// hand.
#ifndef ORIGINAL_DST_TEST_REFUSALS_H_
#define ORIGINAL_DST_TEST_REFUSALS_H_

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// After <sys/syscall.h>: numbers and structures of the filter.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

inline bool refuse(uint32_t call, int error, bool unless_whole_pipe) {
  constexpr uint32_t kWholePipe = 256 * 1024;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[4])),
      // Into a pipe the engine asks for the whole of it, out of it for what is inside.
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, unless_whole_pipe ? kWholePipe : 0xffffffff, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  // The jump past the refusal, for every other call.
  filter[1].jf = 3;
  const sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

inline bool set_mode(const char* mode) {
  if (strcmp(mode, "refuse-splice") == 0) return refuse(SYS_splice, EINVAL, false);
  if (strcmp(mode, "refuse-splice-out") == 0) return refuse(SYS_splice, EINVAL, true);
  if (strcmp(mode, "no-pipes") == 0) return refuse(SYS_pipe2, EMFILE, false);
  return strcmp(mode, "splice") == 0;
}

#endif  // ORIGINAL_DST_TEST_REFUSALS_H_
