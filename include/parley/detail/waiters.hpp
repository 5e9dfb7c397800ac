// A list of operations that wait for one event: linked through themselves, unlinked in any order.

#pragma once

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// Derived from by what waits: `class accept_base : public waiter<accept_base>`.
template <class T>
struct waiter {
    T *previous_waiter = nullptr;
    T *next_waiter = nullptr;
    bool waits = false;
};

// First in, first out. Whoever links also unlinks; all on one loop.
template <class T>
class waiters {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    // nullptr when empty.
    [[nodiscard]] T *front() const noexcept { return first_; }

    void push_back(T &one) noexcept {
        T *last = first_ ? first_->previous_waiter : &one;
        (first_ ? last->next_waiter : first_) = &one;
        one.next_waiter = nullptr;
        one.previous_waiter = last;
        first_->previous_waiter = &one;
        one.waits = true;
    }
    void remove(T &one) noexcept {
        T *next = one.next_waiter;
        (&one == first_ ? first_ : one.previous_waiter->next_waiter) = next;
        if (T *after = next ? next : first_)
            after->previous_waiter = one.previous_waiter;
        one.waits = false;
    }
    // nullptr when empty.
    T *pop_front() noexcept {
        T *one = first_;
        if (one)
            remove(*one);
        return one;
    }

private:
    T *first_ = nullptr; // whose previous one is the last, so that a list is a pointer
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
