#include <parley/latch.hpp>

#include <cassert>

namespace parley::inline PARLEY_ABI {

bool latch::take_or_mark(detail::wait_entry &) noexcept {
    std::size_t seen = state_.load(sync::memory_order_acquire);
    while (seen >= one)
        if (state_.compare_exchange_strong(seen, seen | waited_for, sync::memory_order_acquire,
                                           sync::memory_order_acquire))
            return false;
    return true;
}

// The counter goes on going down beside: only the step to zero while tasks wait is made under the mutex.
void latch::advance(detail::grants &) noexcept {
    if (list_.empty())
        state_.fetch_and(~std::size_t{waited_for}, sync::memory_order_relaxed);
}

void latch::count_down(std::size_t n) noexcept {
    std::size_t seen = state_.load(sync::memory_order_relaxed);
    for (;;) {
        assert(n <= seen / one && "parley: a latch was counted down below zero");
        if ((seen & waited_for) && seen / one == n)
            break;
        if (state_.compare_exchange_weak(seen, seen - n * one, sync::memory_order_acq_rel,
                                         sync::memory_order_relaxed))
            return;
    }
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        grant_all(next);
        state_.exchange(0, sync::memory_order_acq_rel);
    }
    next.tell();
}

} // namespace parley::inline PARLEY_ABI
