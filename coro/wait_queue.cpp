#include <parley/detail/wait_queue.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// --- the queue ---

bool wait_queue::park(wait_entry &one) noexcept {
    sync::lock_guard<sync::mutex> hold(mutex_);
    if (take_or_mark(one))
        return false;
    list_.push_back(one);
    return true;
}

bool wait_queue::withdraw(wait_entry &one) noexcept {
    grants through;
    {
        sync::lock_guard<sync::mutex> hold(mutex_);
        if (!one.waits)
            return false;
        list_.remove(one);
        advance(through);
    }
    through.tell();
    return true;
}

void wait_queue::close() noexcept {
    sync::lock_guard<sync::mutex> hold(mutex_);
#ifndef NDEBUG
    if (list_.empty())
        return;
    std::fprintf(stderr,
                 "parley: a %s was destroyed while tasks wait for it; it must live until each of them has "
                 "gone on\n",
                 what());
    std::abort();
#endif
}

// --- waiting without limit ---

bool wait_entry::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    return queue_.park(*this);
}

void wait_entry::cancel() noexcept {
    if (queue_.withdraw(*this))
        task_->complete_stopped();
}

const char *wait_entry::name() const noexcept {
    return queue_.what();
}

// --- waiting with a limit ---

bool timed_entry::ends_at_once() noexcept {
    if (limit_ > 0)
        return false;
    fate_ = fate::timed_out;
    return true;
}

// Whoever grants only posts to this loop, so *this stays until this function has returned.
bool timed_entry::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    node_.of = this;
    node_.run = [](CommNode *posted) {
        timed_entry &self = *static_cast<node *>(posted)->of;
        self.fate_ = fate::granted;
        self.settle();
    };
    elapsed_ = -monotonic_now();
    task.begin(*this);
    if (!queue_.park(*this))
        return false;
    armed_ = task.loop().communicator().sleep(this) == 0;
    if (armed_)
        return true;
    errno_ = errno;
    if (!queue_.withdraw(*this))
        return true;
    fate_ = fate::failed;
    return false;
}

error timed_entry::failure() const noexcept {
    if (fate_ == fate::failed)
        return error(system_error_code(errno_), stage::none, queue_.what());
    return timed_out_error(stage::none, queue_.what(), std::chrono::nanoseconds(elapsed_),
                           std::chrono::nanoseconds(limit_));
}

void timed_entry::over(bool stopped) noexcept {
    if (stopped)
        task_->complete_stopped();
    else
        task_->complete();
}

void timed_entry::granted() noexcept {
    task_->post_other(node_);
}

void timed_entry::cancel() noexcept {
    if (fate_ != fate::open || !queue_.withdraw(*this))
        return;
    fate_ = fate::stopped;
    settle();
}

void timed_entry::settle() noexcept {
    if (armed_)
        task_->loop().communicator().unsleep(this); // handle() follows, if it has not begun
    else
        over(fate_ == fate::stopped);
}

int timed_entry::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    value->tv_sec = limit_ == sleep_await::for_ever ? -1 : static_cast<time_t>(limit_ / second);
    value->tv_nsec = limit_ == sleep_await::for_ever ? 0 : static_cast<long>(limit_ % second);
    return 0;
}

void timed_entry::handle(int state, int) {
    armed_ = false;
    if (fate_ != fate::open) {
        over(fate_ == fate::stopped);
        return;
    }
    if (!queue_.withdraw(*this))
        return; // granted: the node is on its way
    fate_ = state == SS_STATE_COMPLETE ? fate::timed_out : fate::stopped;
    elapsed_ += monotonic_now();
    over(fate_ == fate::stopped);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
