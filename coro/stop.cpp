#include <parley/stop.hpp>

#include <parley/error.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

bool stop_base::begin(context &task) noexcept {
    open(task);
    started_ = monotonic_now();
    return !task.stopping();
}

bool stop_base::begin(record &child) noexcept {
    begun_ = true;
    add(child);
    return wait();
}

void stop_base::cancel_children() noexcept {
    if (const context *chain = eldest())
        at_.note(*chain);
    cancel_chains();
}

error stop_base::failure() const {
    return at_.make_error(errc::stopping, started_);
}

bool stop_token_base::begin(context &task) noexcept {
    open(task);
    started_ = monotonic_now();
    return !token_.stop_requested();
}

bool stop_token_base::begin(record &child) noexcept {
    begun_ = true;
    add(child);
    if (token_.stop_possible()) {
        request_.owner = this;
        request_.run = [](CommNode *node) { static_cast<request *>(node)->owner->requested(); };
        hold(); // for request_, or until it can no more be posted
        callback_.emplace(token_, on_stop{this});
    }
    return wait();
}

void stop_token_base::on_stop::operator()() const noexcept {
    stop_token_base &self = *owner;
    self.posted_.store(true, sync::memory_order_relaxed); // read once this callback cannot run any more
    self.awaiter().post_other(self.request_);
    self.past_.store(true, sync::memory_order_release);
}

void stop_token_base::requested() noexcept {
    if (const context *chain = eldest()) {
        stopped_ = true;
        at_.note(*chain);
        cancel_chains();
    }
    leave();
}

void stop_token_base::ended(record &) noexcept {
    if (!callback_)
        return;
    // A callback that runs on another thread is waited for, first by ourselves: the library's wait would not
    // let that thread run in a simulated world.
    while (posted_.load(sync::memory_order_acquire) && !past_.load(sync::memory_order_acquire))
        sync::yield();
    callback_.reset();
    if (!posted_.load(sync::memory_order_relaxed))
        leave();
}

error stop_token_base::failure() const {
    return at_.make_error(errc::stopping, started_);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
