// Lists whose links are in what they hold: to come and to go costs no memory and no search.
#ifndef ORIGINAL_DST_RELAY_LIST_H_
#define ORIGINAL_DST_RELAY_LIST_H_

namespace original_dst {

template <typename T>
struct Links {
  T* previous = nullptr;
  T* next = nullptr;
  bool linked = false;
};

// Oldest first. `links`: the member of T that is this list's; T does not become the list's.
template <typename T, Links<T> T::*links>
class List {
 public:
  List() = default;
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  T* first() const { return first_; }
  T* last() const { return last_; }
  static T* after(const T* one) { return (one->*links).next; }
  static bool has(const T* one) { return (one->*links).linked; }

  // At the end; does nothing if it is in there.
  void add(T* one) {
    if (has(one)) return;
    one->*links = {last_, nullptr, true};
    (last_ == nullptr ? first_ : (last_->*links).next) = one;
    last_ = one;
  }

  // Does nothing if it is not in there.
  void remove(T* one) {
    if (!has(one)) return;
    const Links<T> at = one->*links;
    (at.previous == nullptr ? first_ : (at.previous->*links).next) = at.next;
    (at.next == nullptr ? last_ : (at.next->*links).previous) = at.previous;
    one->*links = {};
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

}  // namespace original_dst

#endif  // ORIGINAL_DST_RELAY_LIST_H_
