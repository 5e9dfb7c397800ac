// Who waits for a mutex, a semaphore, an event: a queue in the primitive, its entries in the awaiters. For
// those who write or read a primitive; context.hpp says what the parts of an await are.
//
// A primitive keeps all of its state in one atomic word, one bit of which says that tasks wait. While that bit
// is clear every operation is one atomic exchange. It is set, and what stands in the word beside it changed,
// under the queue's mutex only, and it is set as long as the queue is not empty. So nobody barges past those
// who wait: who finds the bit set queues up behind them.
//
// A wait ends once: who takes its entry out of the queue, under the queue's mutex, decides how: who grants, on
// any thread, or its own loop, because the task was told to stop or its time is over. The entry's memory ends
// with the await, and the primitive's no earlier than the last await on it has returned.

#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/error.hpp>
#include <parley/result.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class wait_queue;
class grants;

// One who waits, and the leaf that it is: derived classes add await_ready() and await_resume().
class wait_entry : public waiter<wait_entry>, protected operation {
public:
    // Has no time limit. Takes the thing at once, or queues.
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

    // What is wanted, in the words of the primitive.
    [[nodiscard]] std::size_t amount() const noexcept { return amount_; }

protected:
    explicit wait_entry(wait_queue &queue, std::size_t amount = 0) noexcept
        : queue_(queue), amount_(amount) {}
    ~wait_entry() = default;

    // The entry has left the queue because it got what it waits for. On the thread of who granted, without
    // the queue's mutex. *this may end in it.
    virtual void granted() noexcept { task_->complete_elsewhere(); }

    void cancel() noexcept override;
    const char *name() const noexcept override;

    wait_queue &queue_;
    context *task_ = nullptr;

private:
    friend class wait_queue;
    friend class grants;

    std::size_t amount_;
};

// One who waits for a limited time. Grant, time and cancel meet on the task's loop, and the await ends when
// the timer is out of use.
//
//   | fate      | set by, on the loop                          | then                              |
//   |-----------|----------------------------------------------|-----------------------------------|
//   | open      | await_suspend                                | one of those below                |
//   | granted   | the node that who granted has posted         | the timer is called off           |
//   | timed_out | the timer, if it took the entry out          | the end                           |
//   | stopped   | cancel(), if it took the entry out           | the timer is called off           |
//   | failed    | await_suspend, without a timer               | the end                           |
class timed_entry : public wait_entry, private SleepSession {
public:
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

protected:
    // Nanoseconds; sleep_await::for_ever is without limit, 0 and less does not wait at all.
    timed_entry(wait_queue &queue, std::int64_t limit, std::size_t amount = 0) noexcept
        : wait_entry(queue, amount), limit_(limit) {}
    ~timed_entry() = default;

    // For await_ready(): what could not be had at once will not be waited for.
    bool ends_at_once() noexcept;
    // Whether the thing was had; else error() says why not.
    [[nodiscard]] bool had() const noexcept { return fate_ == fate::open || fate_ == fate::granted; }
    [[nodiscard]] parley::error failure() const noexcept;

    // The wait is over and the timer out of use. On the loop; *this may end in it.
    virtual void over(bool stopped) noexcept;

    void granted() noexcept override;
    void cancel() noexcept override;

private:
    enum class fate : std::uint8_t { open, granted, timed_out, stopped, failed };
    struct node : CommNode {
        timed_entry *of;
    };

    int duration(struct timespec *value) override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }
    void settle() noexcept;

    std::int64_t limit_;
    std::int64_t elapsed_ = 0;
    node node_;
    int errno_ = 0;
    fate fate_ = fate::open;
    bool armed_ = false;
};

// Entries that have been taken out of a queue and are told so once its mutex is free.
class grants {
public:
    void add(wait_entry &one) noexcept {
        one.next_waiter = nullptr;
        (last_ ? last_->next_waiter : first_) = &one;
        last_ = &one;
    }
    // Touches the primitive no more: it may end with the first that goes on.
    void tell() noexcept {
        for (wait_entry *one = first_; one;) {
            wait_entry *next = one->next_waiter;
            one->granted();
            one = next;
        }
    }

private:
    wait_entry *first_ = nullptr;
    wait_entry *last_ = nullptr;
};

// The base of every primitive.
class wait_queue {
public:
    wait_queue(const wait_queue &) = delete;
    wait_queue &operator=(const wait_queue &) = delete;

    // False: the thing was taken instead.
    bool park(wait_entry &one) noexcept;
    // False: it was granted before.
    bool withdraw(wait_entry &one) noexcept;

    // A literal, for whoever asks what a task waits for.
    [[nodiscard]] virtual const char *what() const noexcept = 0;

protected:
    constexpr wait_queue() noexcept = default;
    ~wait_queue() = default;

    // In the destructor of each primitive: waits for those who are about to leave its mutex. Ends the program
    // in a debug build when tasks wait.
    void close() noexcept;

    // Under the mutex. True: what the entry wants was taken. False: the bit for waiters is set.
    virtual bool take_or_mark(wait_entry &one) noexcept = 0;
    // Under the mutex, when somebody has left the queue without having been granted anything: those that this
    // lets through go to `out`, and the bit is cleared if the queue is empty.
    virtual void advance(grants &out) noexcept = 0;

    void grant_all(grants &out) noexcept {
        while (wait_entry *one = list_.pop_front())
            out.add(*one);
    }

    sync::mutex mutex_;
    waiters<wait_entry> list_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
