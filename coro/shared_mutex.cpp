#include <parley/shared_mutex.hpp>

#include <cassert>

namespace parley::inline PARLEY_ABI {

bool shared_mutex::take_or_mark(detail::wait_entry &one) noexcept {
    if (!list_.empty())
        return false;
    for (;;) {
        if (take(detail::hold_as(one.amount())))
            return true;
        std::uintptr_t seen = state_.load(sync::memory_order_relaxed);
        const bool would_wait =
            detail::hold_as(one.amount()) == detail::hold_as::writer ? seen != 0 : (seen & writing) != 0;
        if (would_wait && state_.compare_exchange_strong(seen, seen | waited_for, sync::memory_order_relaxed,
                                                         sync::memory_order_relaxed))
            return false;
    }
}

// Whoever gets the lock here has what others did under it by way of the queue's mutex, or from the word, if
// they left before anybody waited.
void shared_mutex::advance(detail::grants &out) noexcept {
    std::uintptr_t now = state_.load(sync::memory_order_acquire);
    while (detail::wait_entry *first = list_.front()) {
        const bool writer = detail::hold_as(first->amount()) == detail::hold_as::writer;
        if ((now & writing) || (writer && now >= reader))
            break;
        now += writer ? writing : reader;
        list_.remove(*first);
        out.add(*first);
    }
    if (list_.empty())
        now &= ~std::uintptr_t{waited_for};
    state_.store(now, sync::memory_order_release);
}

void shared_mutex::leave(std::uintptr_t share) noexcept {
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        assert(state_.load(sync::memory_order_relaxed) >= share &&
               "parley: a shared_mutex was unlocked twice");
        const std::uintptr_t before = state_.fetch_sub(share, sync::memory_order_acq_rel);
        if (before & waited_for)
            advance(next);
    }
    next.tell();
}

} // namespace parley::inline PARLEY_ABI
