#include <parley/channel.hpp>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// --- the channel ---

// The link to the next waiter is free once a case has left its queue.
void channel_grants::add(channel_case &one) noexcept {
    one.next_waiter = nullptr;
    (last_ ? last_->next_waiter : first_) = &one;
    last_ = &one;
}

void channel_grants::tell_all() noexcept {
    for (channel_case *one = first_; one;) {
        channel_case *next = one->next_waiter; // before: *one may end in granted()
        one->wait_->granted();
        one = next;
    }
    first_ = last_ = nullptr;
}

channel_case *channel_base::claim_first(waiters<channel_case> &queue) noexcept {
    while (channel_case *one = queue.front()) {
        if (one->wait_->claim(channel_wait::busy))
            return one;
        queue.remove(*one); // of a select that is over
    }
    return nullptr;
}

void channel_base::leave(waiters<channel_case> &queue, channel_case &one) noexcept {
    if (one.waits)
        queue.remove(one);
}

void channel_base::grant(channel_case &one, channel_case::fate how, channel_grants &out) noexcept {
    channel_wait &wait = *one.wait_;
    queue_of(one).remove(one);
    one.fate_ = how;
    wait.winner_ = static_cast<std::size_t>(std::ranges::find(wait.cases_, &one) - wait.cases_.begin());
    out.add(one);
    wait.claim_.store(channel_wait::over, sync::memory_order_release);
}

void channel_base::grant_failed(channel_case &one, channel_grants &out) noexcept {
    one.failure_ = std::current_exception();
    grant(one, channel_case::fate::failed, out);
}

void channel_base::give_back(channel_case &one) noexcept {
    one.wait_->claim_.store(channel_wait::open, sync::memory_order_release);
}

void channel_base::end_waits(channel_grants &out) noexcept {
    closed_ = true;
    while (channel_case *one = claim_popper())
        grant(*one, channel_case::fate::closed, out);
    while (channel_case *one = claim_pusher())
        grant(*one, channel_case::fate::closed, out);
}

void channel_base::abandon() noexcept {
#ifndef NDEBUG
    std::fputs("parley: a channel was destroyed while tasks wait for it; it must live until each of them has "
               "gone on\n",
               stderr);
    std::abort();
#endif
}

// --- waiting without limit ---

void channel_wait::use(std::span<channel_case *> one_or_more, std::span<channel_case *> room) noexcept {
    cases_ = one_or_more;
    room_ = room;
    for (channel_case *one : cases_)
        one->reset();
}

bool channel_wait::claim(std::uint8_t wanted) noexcept {
    for (;;) {
        std::uint8_t seen = open;
        if (claim_.compare_exchange_strong(seen, wanted, sync::memory_order_acq_rel,
                                           sync::memory_order_acquire))
            return true;
        if (seen == over)
            return false;
        sync::yield();
    }
}

void channel_wait::lock_all() noexcept {
    std::ranges::copy(cases_, room_.begin());
    std::ranges::sort(room_, std::less<>(), [](channel_case *one) { return &one->channel_; });
    const channel_base *last = nullptr;
    for (channel_case *one : room_) {
        if (&one->channel_ != last)
            one->channel_.lock_.lock();
        last = &one->channel_;
    }
}

// From the caller's order: the room has been shuffled. A channel of several cases is unlocked at its last
// one.
void channel_wait::unlock_all() noexcept {
    std::ranges::sort(room_, std::less<>(), [](channel_case *one) { return &one->channel_; });
    channel_base *last = nullptr;
    for (channel_case *one : room_) {
        if (last && &one->channel_ != last)
            last->lock_.unlock();
        last = &one->channel_;
    }
    last->lock_.unlock();
}

// Every order is as likely as any other, so of the cases that can go each has the same chance. The numbers
// are the first channel's own: a run in a simulated world repeats them.
void channel_wait::shuffle() noexcept {
    if (room_.size() < 2)
        return;
    std::uint64_t x = (cases_[0]->channel_.drawn_ += 0x9e3779b97f4a7c15u); // splitmix64
    for (std::size_t i = room_.size() - 1; i > 0; --i) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
        std::swap(room_[i], room_[x % (i + 1)]);
    }
}

bool channel_wait::try_now(bool queues) noexcept {
    channel_grants others;
    lock_all();
    shuffle();
    channel_case *done = nullptr;
    for (channel_case *one : room_) {
        if (one->attempt(others)) {
            done = one;
            break;
        }
    }
    if (!done && queues) {
        claim_.store(open, sync::memory_order_relaxed);
        for (channel_case *one : cases_) {
            one->wait_ = this;
            one->channel_.queue_of(*one).push_back(*one);
        }
    }
    if (done)
        winner_ = static_cast<std::size_t>(std::ranges::find(cases_, done) - cases_.begin());
    // From the unlocking on, a wait that is queued may be granted and end, on its loop: which is this thread,
    // in a task or in a callback, so not before this has returned.
    unlock_all();
    others.tell();
    return done != nullptr;
}

bool channel_wait::withdraw() noexcept {
    if (!claim(over))
        return false;
    leave_others();
    return true;
}

void channel_wait::leave_others() noexcept {
    for (channel_case *one : cases_) {
        sync::lock_guard<channel_lock> hold(one->channel_.lock_);
        one->channel_.leave(one->channel_.queue_of(*one), *one);
    }
}

bool channel_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    return !try_now(true);
}

void channel_wait::cancel() noexcept {
    if (withdraw())
        task_->complete_stopped();
}

// --- waiting with a limit ---

bool timed_channel_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    end_ = ending::open;
    armed_ = false;
    if (limit_ <= 0) {
        if (!try_now(false))
            end_ = ending::timed_out;
        return false;
    }
    node_.of = this;
    node_.run = [](CommNode *posted) {
        timed_channel_wait &self = *static_cast<node *>(posted)->of;
        self.end_ = ending::granted;
        self.settle();
    };
    elapsed_ = -monotonic_now();
    task.begin(*this);
    if (try_now(true))
        return false;
    armed_ = task.loop().communicator().sleep(this) == 0;
    if (armed_)
        return true;
    errno_ = errno;
    if (!withdraw())
        return true; // granted meanwhile: the node is on its way
    end_ = ending::failed;
    return false;
}

error timed_channel_wait::failure() const noexcept {
    if (end_ == ending::failed)
        return error(system_error_code(errno_), stage::none, name());
    return timed_out_error(stage::none, name(), std::chrono::nanoseconds(limit_ <= 0 ? 0 : elapsed_),
                           std::chrono::nanoseconds(limit_));
}

void timed_channel_wait::granted() noexcept {
    task_->post_other(node_);
}

void timed_channel_wait::cancel() noexcept {
    if (end_ != ending::open || !withdraw())
        return;
    end_ = ending::stopped;
    settle();
}

void timed_channel_wait::settle() noexcept {
    if (armed_)
        task_->loop().communicator().unsleep(this); // handle() follows, if it has not begun
    else
        finish();
}

void timed_channel_wait::finish() noexcept {
    if (end_ == ending::stopped)
        task_->complete_stopped();
    else
        task_->complete();
}

int timed_channel_wait::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    value->tv_sec = limit_ == sleep_await::for_ever ? -1 : static_cast<time_t>(limit_ / second);
    value->tv_nsec = limit_ == sleep_await::for_ever ? 0 : static_cast<long>(limit_ % second);
    return 0;
}

void timed_channel_wait::handle(int state, int) {
    armed_ = false;
    if (end_ == ending::open) {
        if (!withdraw())
            return; // granted: the node is on its way
        end_ = state == SS_STATE_COMPLETE ? ending::timed_out : ending::stopped;
        elapsed_ += monotonic_now();
    }
    finish();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
