#include <parley/rate_limiter.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <stdexcept>

#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace {

constexpr std::int64_t longest_fill = 1'000'000'000'000'000'000; // 30 years, so that no sum overflows

std::int64_t checked_fill(double rate, std::size_t burst) {
    if (!(rate > 0) || !std::isfinite(rate))
        throw std::invalid_argument("parley: the rate of a rate_limiter is a positive number");
    if (burst == 0)
        throw std::invalid_argument("parley: the burst of a rate_limiter is at least 1");
    const double fill = std::ceil(static_cast<double>(burst) * 1e9 / rate);
    if (fill > static_cast<double>(longest_fill))
        throw std::invalid_argument("parley: a rate_limiter would take more than 30 years to fill up");
    return static_cast<std::int64_t>(fill);
}

} // namespace

rate_limiter::rate_limiter(double rate, std::size_t burst)
    : rate_(rate), burst_(burst), fill_(checked_fill(rate, burst)), state_(-2 * longest_fill) {}

std::size_t rate_limiter::checked(std::size_t n) const {
    if (n > burst_)
        throw std::invalid_argument("parley: more tokens were asked of a rate_limiter than its burst");
    return n;
}

std::int64_t rate_limiter::cost(std::size_t n) const noexcept {
    return std::min(fill_, static_cast<std::int64_t>(std::ceil(static_cast<double>(n) * 1e9 / rate_)));
}

std::int64_t rate_limiter::after(std::int64_t word, std::int64_t cost, std::int64_t now) const noexcept {
    const std::int64_t taken = std::max(word >> 1, now - fill_) + cost;
    return taken > now ? word : taken * 2 | (word & waited_for);
}

bool rate_limiter::try_acquire(std::size_t n) noexcept {
    if (n > burst_)
        return false;
    const std::int64_t price = cost(n), now = detail::monotonic_now();
    std::int64_t seen = state_.load(sync::memory_order_relaxed);
    while (!(seen & waited_for)) {
        const std::int64_t next = after(seen, price, now);
        if (next == seen)
            return price == 0;
        if (state_.compare_exchange_weak(seen, next, sync::memory_order_acq_rel, sync::memory_order_relaxed))
            return true;
    }
    return false;
}

bool rate_limiter::take_or_mark(detail::wait_entry &one) noexcept {
    if (!list_.empty())
        return false;
    for (;;) {
        if (try_acquire(one.amount()))
            return true;
        std::int64_t seen = state_.load(sync::memory_order_relaxed);
        if (after(seen, cost(one.amount()), detail::monotonic_now()) == seen &&
            state_.compare_exchange_strong(seen, seen | waited_for, sync::memory_order_relaxed,
                                           sync::memory_order_relaxed)) {
            static_cast<detail::rate_wait &>(one).leads_ = true;
            return false;
        }
    }
}

void rate_limiter::advance(detail::grants &out) noexcept {
    const std::int64_t now = detail::monotonic_now();
    std::int64_t word = state_.load(sync::memory_order_relaxed);
    while (auto *first = static_cast<detail::rate_wait *>(list_.front())) {
        const std::int64_t price = cost(first->amount());
        const std::int64_t next = after(word, price, now);
        if (next == word && price != 0) {
            if (!std::exchange(first->leads_, true) && !std::exchange(first->signalled_, true))
                first->task_->post_other(first->node_);
            break;
        }
        word = next;
        list_.remove(*first);
        if (!std::exchange(first->signalled_, true))
            out.add(*first);
    }
    if (list_.empty())
        word &= ~std::int64_t{waited_for};
    state_.store(word, sync::memory_order_release);
}

namespace detail {

bool rate_wait::ready() noexcept {
    if (limiter_.try_acquire(amount()))
        return true;
    if (limit_ > 0)
        return false;
    fate_ = fate::timed_out;
    return true;
}

// Whoever grants only posts to this loop, so *this stays until this function has returned.
bool rate_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    node_.of = this;
    node_.run = [](CommNode *posted) {
        rate_wait &self = *static_cast<node *>(posted)->of;
        {
            sync::lock_guard<sync::mutex> hold(self.limiter_.mutex_);
            self.signalled_ = false;
        }
        self.look();
    };
    begun_ = monotonic_now();
    end_ = limit_ > sleep_await::for_ever - begun_ ? sleep_await::for_ever : begun_ + limit_;
    task.begin(*this);
    if (!limiter_.park(*this))
        return false;
    look();
    return true;
}

error rate_wait::failure() const noexcept {
    if (fate_ == fate::failed)
        return error(system_error_code(errno_), stage::none, queue_.what());
    return timed_out_error(stage::none, queue_.what(), std::chrono::nanoseconds(elapsed_),
                           std::chrono::nanoseconds(limit_));
}

void rate_wait::granted() noexcept {
    task_->post_other(node_);
}

void rate_wait::cancel() noexcept {
    leave(fate::stopped);
}

void rate_wait::leave(fate why) noexcept {
    if (!limiter_.withdraw(*this))
        return; // granted: the node is on its way
    fate_ = why;
    elapsed_ = monotonic_now() - begun_;
    settle();
}

// After anything that may have changed what this waits for, on its loop. *this may end in it.
void rate_wait::look() noexcept {
    grants through;
    bool queued, first;
    std::int64_t due;
    {
        sync::lock_guard<sync::mutex> hold(limiter_.mutex_);
        if (waits && leads_)
            limiter_.advance(through);
        queued = waits;
        first = leads_;
        due = (limiter_.state_.load(sync::memory_order_relaxed) >> 1) + limiter_.cost(amount());
    }
    through.tell(); // perhaps to this one too, by its node
    if (!queued) {
        settle();
        return;
    }
    if (monotonic_now() >= end_) {
        leave(fate::timed_out);
        return;
    }
    arm(first ? std::min(due, end_) : end_);
}

void rate_wait::arm(std::int64_t until) noexcept {
    if (armed_) {
        if (until_ != until)
            task_->loop().communicator().unsleep(this); // handle() looks again
        return;
    }
    until_ = until;
    armed_ = true;
    if (until == sleep_await::for_ever || task_->loop().communicator().sleep(this) == 0) {
        armed_ = until != sleep_await::for_ever;
        return;
    }
    armed_ = false;
    errno_ = errno;
    leave(fate::failed);
}

void rate_wait::settle() noexcept {
    {
        sync::lock_guard<sync::mutex> hold(limiter_.mutex_);
        if (signalled_)
            return;
    }
    if (armed_)
        task_->loop().communicator().unsleep(this);
    else if (fate_ == fate::stopped)
        task_->complete_stopped();
    else
        task_->complete();
}

int rate_wait::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    const std::int64_t left = std::max<std::int64_t>(0, until_ - monotonic_now());
    value->tv_sec = static_cast<time_t>(left / second);
    value->tv_nsec = static_cast<long>(left % second);
    return 0;
}

void rate_wait::handle(int state, int) {
    armed_ = false;
    if (state == SS_STATE_DISRUPTED && fate_ == fate::open)
        leave(fate::stopped); // the core ends
    else
        look();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
