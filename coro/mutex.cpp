#include <parley/mutex.hpp>

#include <cassert>

namespace parley::inline PARLEY_ABI {

bool mutex::take_or_mark(detail::wait_entry &) noexcept {
    if (!list_.empty())
        return false;
    for (;;) {
        if (take())
            return true;
        std::uintptr_t seen = locked;
        if (state_.compare_exchange_strong(seen, locked | waited_for, sync::memory_order_relaxed,
                                           sync::memory_order_relaxed))
            return false;
    }
}

void mutex::advance(detail::grants &) noexcept {
    if (list_.empty())
        state_.store(locked, sync::memory_order_relaxed);
}

void mutex::hand_over() noexcept {
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        assert(state_.load(sync::memory_order_relaxed) != 0 && "parley: a mutex was unlocked twice");
        // Whoever waited may have left meanwhile.
        detail::wait_entry *heir = list_.pop_front();
        if (heir)
            next.add(*heir);
        if (!heir)
            state_.store(0, sync::memory_order_release);
        else if (list_.empty())
            state_.store(locked, sync::memory_order_relaxed);
    }
    next.tell();
}

} // namespace parley::inline PARLEY_ABI
