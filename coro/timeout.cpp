#include <parley/timeout.hpp>

#include <algorithm>
#include <cerrno>

#include <parley/detail/session_error.hpp>
#include <parley/error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {
namespace {

constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t second = 1'000'000'000;

} // namespace

bool timeout_base::begin(context &task, record &child) noexcept {
    open(task);
    started_ = monotonic_now();
    const std::int64_t mine = absolute_ ? time_ : time_ > never - 1 - started_ ? never : started_ + time_;
    below_.deadline = std::min(mine, task.deadline());
    below_.locals = task.inherits() ? task.inherits()->locals : nullptr;
    add(child, &below_);
    // A limit above that is nearer has a timer of its own.
    if (mine < task.deadline()) {
        armed_ = true;
        hold();
        if (task.loop().communicator().sleep(&timer_) < 0) {
            armed_ = false;
            no_timer_ = errno;
            cancel_chains();
            leave();
        }
    }
    return wait();
}

int timeout_base::timer::duration(struct timespec *value) {
    const std::int64_t left = std::max<std::int64_t>(owner_.below_.deadline - owner_.started_, 1);
    value->tv_sec = static_cast<time_t>(left / second);
    value->tv_nsec = static_cast<long>(left % second);
    return 0;
}

void timeout_base::timer::handle(int state, int) {
    owner_.armed_ = false;
    if (state == SS_STATE_COMPLETE) {
        owner_.timed_out_ = true;
        if (const context *chain = owner_.eldest())
            owner_.at_.note(*chain);
        owner_.cancel_chains();
    }
    owner_.leave();
}

void timeout_base::ended(record &) noexcept {
    if (armed_)
        home().communicator().unsleep(&timer_);
}

error timeout_base::failure() const {
    if (no_timer_ != 0)
        return error(system_error_code(no_timer_), parley::stage::sleep);
    // A point of the past leaves no time, not less than none.
    const std::int64_t limit = std::max<std::int64_t>(below_.deadline - started_, 0);
    return timed_out_error(at_.where(), at_.peer(), std::chrono::nanoseconds(monotonic_now() - started_),
                           std::chrono::nanoseconds(limit));
}

bool time_left_await::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    deadline_ = task.deadline();
    return false;
}

std::optional<std::chrono::nanoseconds> time_left_await::await_resume() const noexcept {
    if (deadline_ == never)
        return std::nullopt;
    return std::chrono::nanoseconds(std::max<std::int64_t>(deadline_ - monotonic_now(), 0));
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
