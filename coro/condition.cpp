#include <parley/condition.hpp>

#include <algorithm>
#include <stdexcept>

namespace parley::inline PARLEY_ABI {
namespace detail {

void relock::start(context &task, bool stopped) noexcept {
    task_ = &task;
    stopped_ = stopped;
    if (!queue_.park(*this))
        granted();
}

bool condition_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    queue_.park(*this);
    back_.unlock(); // *this stays: whoever notifies only posts to this loop
    return true;
}

void condition_wait::cancel() noexcept {
    if (queue_.withdraw(*this))
        back_.start(*task_, true);
}

bool condition_wait_for::await_suspend(std::coroutine_handle<> self, context &task) noexcept {
    if (!timed_entry::await_suspend(self, task))
        return false;
    back_.unlock();
    return true;
}

} // namespace detail

void condition::notify_one() noexcept {
    notify(false);
}

void condition::notify_all() noexcept {
    notify(true);
}

void condition::notify(bool all) noexcept {
    detail::grants next;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        if (all)
            grant_all(next);
        else if (detail::wait_entry *first = list_.pop_front())
            next.add(*first);
    }
    next.tell();
}

mutex &condition::mutex_of(mutex::guard &held) {
    if (!held.held_)
        throw std::invalid_argument("parley: a condition was waited for with an empty guard; lock the mutex "
                                    "first");
    return *held.held_;
}

std::int64_t condition::end_of(std::int64_t limit) noexcept {
    const std::int64_t now = detail::monotonic_now();
    return limit > detail::sleep_await::for_ever - now ? detail::sleep_await::for_ever : now + limit;
}

std::int64_t condition::left_until(std::int64_t end) noexcept {
    return end == detail::sleep_await::for_ever ? end
                                                : std::max<std::int64_t>(0, end - detail::monotonic_now());
}

} // namespace parley::inline PARLEY_ABI
