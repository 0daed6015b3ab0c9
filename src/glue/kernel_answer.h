// The memory in which C++ leaves what the kernel has said and TypeScript reads it.
#ifndef ORIGINAL_DST_GLUE_KERNEL_ANSWER_H_
#define ORIGINAL_DST_GLUE_KERNEL_ANSWER_H_

#include <stddef.h>

#include "socket/original_dst.h"

namespace original_dst {

struct KernelAnswer {
  Endpoint scratch;  // for an address that is no part of an answer: to have its text made
  Facts facts;
  double origin;  // as of origin_number()
};
static_assert(offsetof(KernelAnswer, facts) == 24 && offsetof(KernelAnswer, origin) == 136,
              "lib/recover/kernel-answer.ts knows this layout");

}  // namespace original_dst

#endif  // ORIGINAL_DST_GLUE_KERNEL_ANSWER_H_
