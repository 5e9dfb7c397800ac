#include <parley/readiness.hpp>

#include <cerrno>
#include <string>

#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

bool watch_await::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    error_ = 0;
    task.begin(*this);
    if (task.loop().communicator().watch(this, fd_, writing_) == 0)
        return true;
    error_ = errno;
    return false;
}

result<void> watch_await::await_resume() {
    if (error_ == 0)
        return {};
    return unexpected(system_error_code(error_), parley::stage::none, resource());
}

void watch_await::handle(int state, int error) {
    if (state == CS_STATE_STOPPED || (state == CS_STATE_ERROR && error == ECANCELED))
        return task_->complete_stopped();
    error_ = state == CS_STATE_SUCCESS ? 0 : error;
    task_->complete();
}

void watch_await::cancel() noexcept {
    task_->loop().communicator().unwatch(this);
}

std::string watch_await::resource() const {
    return "fd " + std::to_string(fd_);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
