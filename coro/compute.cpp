#include <parley/compute.hpp>

#include <cerrno>

#include <parley/error.hpp>
#include <parley/loop.hpp>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

bool compute_base::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    runtime &rt = task.loop().runtime();
    task_ = &task;
    error_ = 0;
    task.begin(*this);
    if (rt.executor().request(this, &rt.compute_queue()) == 0)
        return true;
    error_ = errno;
    return false;
}

void compute_base::rethrow() {
    if (error_ != 0)
        throw exception(error(system_error_code(error_), parley::stage::compute));
    if (failure_)
        std::rethrow_exception(std::move(failure_));
}

// On a thread of the Executor.
void compute_base::execute() {
    try {
        work();
    } catch (...) {
        failure_ = std::current_exception();
    }
}

// On a thread of the Executor, or inside cancel().
void compute_base::handle(int state, int) {
    task_->complete_elsewhere(state != ES_STATE_FINISHED);
}

// Fails when the work runs or has ended: then its handle() comes, or has come, from there.
void compute_base::cancel() noexcept {
    task_->loop().runtime().executor().cancel(this);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
