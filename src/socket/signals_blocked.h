// No signal is handled by this thread for as long as a SignalsBlocked of it lives, nor by any that
// it starts meanwhile: the program's handlers run where they always ran.
#ifndef ORIGINAL_DST_SOCKET_SIGNALS_BLOCKED_H_
#define ORIGINAL_DST_SOCKET_SIGNALS_BLOCKED_H_

#include <signal.h>

namespace original_dst {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_SIGNALS_BLOCKED_H_
