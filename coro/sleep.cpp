#include <parley/sleep.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>

#include <parley/core/Sys.h>
#include <parley/error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

std::int64_t monotonic_now() noexcept {
    return sys::monotonic_ns();
}

std::int64_t realtime_now() noexcept {
    return sys::current().realtime_ns();
}

int core_milliseconds(any_duration limit) noexcept {
    if (limit.count() < 0)
        return -1;
    const std::int64_t ms = limit.count() / 1'000'000 + (limit.count() % 1'000'000 != 0);
    return ms > INT_MAX ? -1 : std::max(static_cast<int>(ms), 1);
}

bool sleep_await::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    error_ = 0;
    if (duration_ <= 0) {
        task.pass();
        return true;
    }
    task.begin(*this);
    if (task.loop().communicator().sleep(this) == 0)
        return true;
    error_ = errno;
    return false;
}

void sleep_await::await_resume() const {
    if (error_ != 0)
        throw exception(error(system_error_code(error_), parley::stage::sleep));
}

int sleep_await::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    value->tv_sec = duration_ == for_ever ? -1 : static_cast<time_t>(duration_ / second);
    value->tv_nsec = duration_ == for_ever ? 0 : static_cast<long>(duration_ % second);
    return 0;
}

void sleep_await::handle(int state, int) {
    if (state == SS_STATE_COMPLETE)
        task_->complete();
    else
        task_->complete_stopped();
}

void sleep_await::cancel() noexcept {
    task_->loop().communicator().unsleep(this);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
