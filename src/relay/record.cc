#include "relay/record.h"

#include <string.h>

namespace original_dst {

void Record::set_name(const FirstBytes& first) {
  protocol = first.protocol;
  if (first.name_length == 0) return;
  name.reset(new char[first.name_length]);
  memcpy(name.get(), first.name, first.name_length);
  name_length = first.name_length;
}

void Records::add(std::unique_ptr<Record> one) {
  *tail_ = one.release();
  tail_ = &(*tail_)->next;
  count_++;
}

void Records::take(Records* from) {
  if (from->first_ == nullptr) return;
  *tail_ = from->first_;
  tail_ = from->tail_;
  count_ += from->count_;
  from->first_ = nullptr;
  from->tail_ = &from->first_;
  from->count_ = 0;
}

std::unique_ptr<Record> Records::shift() {
  std::unique_ptr<Record> one(first_);
  if (one == nullptr) return one;
  first_ = one->next;
  one->next = nullptr;
  count_--;
  if (first_ == nullptr) tail_ = &first_;
  return one;
}

}  // namespace original_dst
