#include <parley/signal_set.hpp>

#include <bit>
#include <cerrno>

#include <parley/error.hpp>
#include <parley/loop.hpp>

#include "signal_listener.hpp"

namespace parley::inline PARLEY_ABI {

signal_set::signal_set(std::uint64_t wanted) : listener_(std::make_unique<detail::signal_listener>(wanted)) {}

signal_set::~signal_set() = default;

int signal_set::take() noexcept {
    come_ |= listener_->take();
    if (come_ == 0)
        return 0;
    const int number = std::countr_zero(come_) + 1;
    come_ &= come_ - 1;
    return number;
}

namespace detail {

bool signal_set_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    error_ = 0;
    cancelled_ = false;
    if (from_.busy_.exchange(true, sync::memory_order_acquire)) {
        error_ = EBUSY;
        return false;
    }
    signal_ = from_.take();
    if (signal_ == 0) {
        task.begin(*this);
        if (watch())
            return true;
    }
    from_.busy_.store(false, sync::memory_order_release);
    return false;
}

bool signal_set_wait::watch() noexcept {
    if (task_->loop().communicator().watch(this, from_.listener_->event(), false) == 0)
        return true;
    error_ = errno;
    return false;
}

void signal_set_wait::handle(int state, int) {
    const bool ready = state == CS_STATE_SUCCESS;
    if (ready) {
        signal_ = from_.take();
        // The handler wakes us after it has noted the signal: what it noted may have been taken before.
        if (signal_ == 0 && !cancelled_ && watch())
            return;
    }
    from_.busy_.store(false, sync::memory_order_release);
    ready && !(cancelled_ && signal_ == 0) ? task_->complete() : task_->complete_stopped();
}

int signal_set_wait::await_resume() const {
    if (error_ != 0)
        throw exception(error(system_error_code(error_), parley::stage::none, {}, {},
                              error_ == EBUSY ? "another task waits for this signal_set" : ""));
    return signal_;
}

void signal_set_wait::cancel() noexcept {
    cancelled_ = true; // where handle(SUCCESS) is on its way already, unwatch() does nothing
    task_->loop().communicator().unwatch(this);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
