// Who waits for a channel, or for one of several: what does not depend on the type of the values.
//
// A wait (a push, a pop, a select) has one case for each channel it would use; while it waits each case
// stands in a queue of its channel. What ends the wait is decided by one atomic word, its claim:
//
//   | claim | set by                                   | becomes                                            |
//   |-------|------------------------------------------|----------------------------------------------------|
//   | open  | await_suspend                            | busy, over                                         |
//   | busy  | who found a case in a queue, any thread, | over, when the value has been moved; open again if |
//   |       | with that channel locked                 | its move threw                                     |
//   | over  | the same; or cancel and timer, at home   | -                                                  |
//
// A case whose wait is over is as good as not there: who finds it unlinks it. Who finds `busy` lets others
// run: one move is all that is in its way, and that needs no further lock.
//
// A wait locks all of its channels, in the order of their addresses, tries its cases, and if none can go
// queues up at all of them before it unlocks. So two waits cannot miss each other, and never wait in a
// circle.

#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class channel_base;
class channel_case;
class channel_wait;

// Held for a few instructions and a move of T. Unlocking is its last touch, so a channel may end right after.
class channel_lock {
public:
    void lock() noexcept {
        while (held_.exchange(true, sync::memory_order_acquire))
            sync::yield();
    }
    void unlock() noexcept { held_.store(false, sync::memory_order_release); }

private:
    sync::atomic<bool> held_{false};
};

// Cases that have left their queue for good. Their waits are told when no channel is locked.
class channel_grants {
public:
    void add(channel_case &one) noexcept;
    void tell() noexcept {
        if (first_)
            tell_all();
    }

private:
    void tell_all() noexcept;
    channel_case *first_ = nullptr;
    channel_case *last_ = nullptr;
};

// One thing that a wait would do, at one channel.
class channel_case : public waiter<channel_case> {
public:
    // waiting: not yet. closed: the channel is. failed: T's move threw, see failure().
    enum class fate : std::uint8_t { waiting, done, closed, failed };

    // With the channel locked: does it if it can be done now. False: it must wait.
    virtual bool attempt(channel_grants &out) noexcept = 0;

    // Of one that waits: where its value is (T *) or goes to (std::optional<T> *).
    [[nodiscard]] void *place() const noexcept { return place_; }

    channel_case(const channel_case &) = delete;
    channel_case &operator=(const channel_case &) = delete;

protected:
    channel_case(channel_base &channel, bool pushes) noexcept : channel_(channel), pushes_(pushes) {}
    ~channel_case() = default;

    bool end(fate how) noexcept {
        fate_ = how;
        return true;
    }
    bool fail() noexcept {
        failure_ = std::current_exception();
        return end(fate::failed);
    }
    // Throws what T's move threw; false if the channel is closed.
    bool succeeded() {
        if (failure_) [[unlikely]]
            std::rethrow_exception(std::exchange(failure_, nullptr));
        return fate_ == fate::done;
    }

    channel_lock &lock() noexcept;
    // Before each await.
    void reset() noexcept { fate_ = fate::waiting; }

    channel_base &channel_;
    void *place_ = nullptr;

private:
    friend class channel_base;
    friend class channel_grants;
    friend class channel_wait;

    channel_wait *wait_ = nullptr;
    std::exception_ptr failure_;
    const bool pushes_;
    fate fate_ = fate::waiting;
};

// The part of a channel that knows no T: lock, queues, the end.
class channel_base {
public:
    channel_base(const channel_base &) = delete;
    channel_base &operator=(const channel_base &) = delete;

protected:
    channel_base() = default;
    ~channel_base() {
        if (!pushers_.empty() || !poppers_.empty())
            abandon();
    }

    // With the lock held.
    // The first that waits to push (or pop), claimed: grant() or give_back() follows. nullptr: nobody waits.
    channel_case *claim_pusher() noexcept { return pushers_.empty() ? nullptr : claim_first(pushers_); }
    channel_case *claim_popper() noexcept { return poppers_.empty() ? nullptr : claim_first(poppers_); }
    void grant(channel_case &one, channel_case::fate how, channel_grants &out) noexcept;
    void grant_failed(channel_case &one, channel_grants &out) noexcept;
    void give_back(channel_case &one) noexcept;
    // Ends all that waits; later attempts see closed_.
    void end_waits(channel_grants &out) noexcept;

    mutable channel_lock lock_;
    bool closed_ = false;

private:
    friend class channel_case;
    friend class channel_wait;

    waiters<channel_case> &queue_of(const channel_case &one) noexcept {
        return one.pushes_ ? pushers_ : poppers_;
    }
    channel_case *claim_first(waiters<channel_case> &queue) noexcept;
    void leave(waiters<channel_case> &queue, channel_case &one) noexcept;
    void abandon() noexcept;

    waiters<channel_case> pushers_;
    waiters<channel_case> poppers_;
    std::uint64_t drawn_ = 0; // by the selects that begin here, see channel_wait::shuffle()
};

inline channel_lock &channel_case::lock() noexcept {
    return channel_.lock_;
}

// A push, a pop or a select, while it is awaited.
class channel_wait : protected operation {
public:
    // A value that was handed over is not dropped because its task was told to stop meanwhile.
    static constexpr bool keeps_result = true;

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

protected:
    enum : std::uint8_t { open, busy, over };

    channel_wait() noexcept = default;
    ~channel_wait() = default;

    // Begins anew: `one_or_more` in the caller's order, `room` for as many; both live as long as the wait.
    // Before await_suspend and try_now.
    void use(std::span<channel_case *> one_or_more, std::span<channel_case *> room) noexcept;

    // True: one of the cases was done, or its channel is closed. False: none can go, nothing was changed.
    // With `queues`, they stand in their queues then.
    bool try_now(bool queues) noexcept;
    // At home. True: the wait is over and nobody has got it; its cases are out of their queues. False:
    // somebody has ended it, granted() has come or will come.
    bool withdraw() noexcept;
    // At home, after a grant: takes the other cases out of their queues.
    void leave_others() noexcept;
    [[nodiscard]] std::size_t winner() const noexcept { return winner_; }

    // On the thread of who ended it, without a lock. *this may end in it.
    virtual void granted() noexcept { task_->complete_elsewhere(); }
    void cancel() noexcept override;

    context *task_ = nullptr;

private:
    friend class channel_base;
    friend class channel_grants;

    void lock_all() noexcept;
    void unlock_all() noexcept;
    void shuffle() noexcept;
    bool claim(std::uint8_t wanted) noexcept;

    std::span<channel_case *> cases_;
    std::span<channel_case *> room_; // the same, first by address of their channels, then in the order tried
    std::size_t winner_ = 0;
    sync::atomic<std::uint8_t> claim_{open};
};

// One that waits for a limited time. Grant, time and cancel meet at home, and the await ends when the timer
// is out of use.
//
//   | end       | set by, at home                              | then                              |
//   |-----------|----------------------------------------------|-----------------------------------|
//   | open      | await_suspend                                | one of those below                |
//   | granted   | the node that who granted has posted         | the timer is called off           |
//   | timed_out | the timer, if it withdrew the wait           | the end                           |
//   | stopped   | cancel(), if it withdrew the wait            | the timer is called off           |
//   | failed    | await_suspend, without a timer               | the end                           |
class timed_channel_wait : public channel_wait, private SleepSession {
public:
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

protected:
    // Nanoseconds; sleep_await::for_ever is without limit, 0 and less does not wait at all.
    explicit timed_channel_wait(std::int64_t limit) noexcept : limit_(limit) {}
    ~timed_channel_wait() = default;

    // Before each await, of which the one before may have ended without a result.
    void begin_anew() noexcept { end_ = ending::open; }
    // Instead of a result of the cases. Then failure() says why.
    [[nodiscard]] bool ended_without() const noexcept {
        return end_ == ending::timed_out || end_ == ending::failed;
    }
    [[nodiscard]] error failure() const noexcept;

    void granted() noexcept override;
    void cancel() noexcept override;

private:
    enum class ending : std::uint8_t { open, granted, timed_out, stopped, failed };
    struct node : CommNode {
        timed_channel_wait *of;
    };

    int duration(struct timespec *value) override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }
    void settle() noexcept;
    void finish() noexcept;

    std::int64_t limit_;
    std::int64_t elapsed_ = 0;
    node node_;
    int errno_ = 0;
    ending end_ = ending::open;
    bool armed_ = false;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
