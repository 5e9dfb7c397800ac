#include <parley/semaphore.hpp>

#include <cassert>

namespace parley::inline PARLEY_ABI {

bool semaphore::take_or_mark(detail::wait_entry &entry) noexcept {
    if (!list_.empty())
        return false;
    for (;;) {
        if (take(entry.amount()))
            return true;
        std::size_t seen = state_.load(sync::memory_order_relaxed);
        if (seen / one < entry.amount() &&
            state_.compare_exchange_strong(seen, seen | waited_for, sync::memory_order_relaxed,
                                           sync::memory_order_relaxed))
            return false;
    }
}

// Whoever gets permits here has what others did before they gave them back by way of the queue's mutex, or
// from the word, if that was before anybody waited.
void semaphore::advance(detail::grants &out) noexcept {
    std::size_t left = state_.load(sync::memory_order_acquire) / one;
    while (detail::wait_entry *first = list_.front()) {
        if (first->amount() > left)
            break;
        left -= first->amount();
        list_.remove(*first);
        out.add(*first);
    }
    state_.store(left * one | (list_.empty() ? 0u : std::size_t{waited_for}), sync::memory_order_release);
}

void semaphore::add(std::size_t n) noexcept {
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        [[maybe_unused]] const std::size_t before = state_.fetch_add(n * one, sync::memory_order_acq_rel);
        assert(before / one <= max - n && "parley: too many permits were given to a semaphore");
        if (before & waited_for)
            advance(next);
    }
    next.tell();
}

} // namespace parley::inline PARLEY_ABI
