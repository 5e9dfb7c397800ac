#include <parley/event.hpp>

namespace parley::inline PARLEY_ABI {

bool event::take_or_mark(detail::wait_entry &) noexcept {
    if (!list_.empty())
        return false;
    for (;;) {
        if (take())
            return true;
        std::uint8_t seen = 0;
        if (state_.compare_exchange_strong(seen, waited_for, sync::memory_order_relaxed,
                                           sync::memory_order_relaxed))
            return false;
    }
}

void event::advance(detail::grants &) noexcept {
    if (list_.empty())
        state_.store(0, sync::memory_order_relaxed);
}

void event::set_slowly() noexcept {
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        if (list_.empty()) { // whoever waited has left meanwhile
            state_.exchange(set_, sync::memory_order_acq_rel);
        } else if (how_ == parley::reset::manual) {
            grant_all(next);
            state_.store(set_, sync::memory_order_release);
        } else {
            next.add(*list_.pop_front());
            if (list_.empty())
                state_.store(0, sync::memory_order_relaxed);
        }
    }
    next.tell();
}

} // namespace parley::inline PARLEY_ABI
