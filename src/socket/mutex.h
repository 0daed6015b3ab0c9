// A mutex that is held for as long as a Locked of it lives.
#ifndef ORIGINAL_DST_SOCKET_MUTEX_H_
#define ORIGINAL_DST_SOCKET_MUTEX_H_

#include <pthread.h>

namespace original_dst {

class Locked {
 public:
  explicit Locked(pthread_mutex_t* mutex) : mutex_(mutex) { pthread_mutex_lock(mutex_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() { pthread_mutex_unlock(mutex_); }

 private:
  pthread_mutex_t* const mutex_;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_MUTEX_H_
