// So many at a time: a number of permits that tasks of any loops take and give back.
//
//     parley::semaphore places{8};
//
//     auto place = co_await places.acquire();                 // given back at the end of the block
//     auto three = co_await places.acquire_for(1s, 3);        // result<permit>: errc::timed_out

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class semaphore_acquire;
class semaphore_acquire_for;
} // namespace detail

// Fair: first come, first served, also when the first wants many and those behind it few. Taking and giving
// back are one atomic operation each while nobody waits, and allocate nothing in any case. It must live until
// every await on it has returned and every permit has ended; destroying it while tasks wait ends the program
// in a debug build.
class semaphore final : private detail::wait_queue {
public:
    // Some permits, given back at its end; or none.
    class [[nodiscard]] permit {
    public:
        constexpr permit() noexcept = default;
        permit(permit &&other) noexcept
            : from_(std::exchange(other.from_, nullptr)), count_(std::exchange(other.count_, 0)) {}
        permit &operator=(permit &&other) noexcept {
            permit moved(std::move(other));
            std::swap(from_, moved.from_);
            std::swap(count_, moved.count_);
            return *this;
        }
        ~permit() { give_back(); }

        // Before the end of the block. Any thread; does nothing without permits.
        void give_back() noexcept {
            if (semaphore *from = std::exchange(from_, nullptr))
                from->release(std::exchange(count_, 0));
        }
        // The permits stay taken; somebody calls semaphore::release() for them, or nobody. How many.
        std::size_t forget() noexcept {
            from_ = nullptr;
            return std::exchange(count_, 0);
        }
        [[nodiscard]] std::size_t count() const noexcept { return count_; }
        // Whether it was acquired and not given back.
        explicit operator bool() const noexcept { return from_ != nullptr; }

    private:
        friend class semaphore;
        friend class detail::semaphore_acquire;
        friend class detail::semaphore_acquire_for;
        permit(semaphore &from, std::size_t count) noexcept : from_(&from), count_(count) {}

        semaphore *from_ = nullptr;
        std::size_t count_ = 0;
    };

    static constexpr std::size_t max = std::numeric_limits<std::size_t>::max() / 2;

    // With so many permits to begin with; not more than max.
    constexpr explicit semaphore(std::size_t permits) noexcept : state_(permits * one) {}
    ~semaphore() { close(); }

    // `co_await s.acquire(n)`: a permit for n at once. A task that gets it although it was told to stop has
    // it; its next await throws `cancelled`.
    [[nodiscard]] detail::semaphore_acquire acquire(std::size_t n = 1) noexcept;
    // The same for not longer than that: result<permit>, with errc::timed_out. Without time left it is a try.
    template <class Rep, class Period>
    [[nodiscard]] detail::semaphore_acquire_for acquire_for(std::chrono::duration<Rep, Period> limit,
                                                            std::size_t n = 1);
    template <class Clock, class Duration>
    [[nodiscard]] detail::semaphore_acquire_for acquire_until(std::chrono::time_point<Clock, Duration> when,
                                                              std::size_t n = 1);

    // An empty permit if there are not n, or others wait. Any thread, with or without a loop.
    [[nodiscard]] permit try_acquire(std::size_t n = 1) noexcept {
        return take(n) ? permit(*this, n) : permit();
    }

    // Adds n permits. Any thread, who need not have acquired them. Resumes nobody inside.
    void release(std::size_t n = 1) noexcept {
        std::size_t seen = state_.load(sync::memory_order_relaxed);
        while (!(seen & waited_for))
            if (state_.compare_exchange_weak(seen, seen + n * one, sync::memory_order_release,
                                             sync::memory_order_relaxed))
                return;
        add(n);
    }

    // At this moment.
    [[nodiscard]] std::size_t available() const noexcept {
        return state_.load(sync::memory_order_relaxed) / one;
    }

private:
    friend class detail::semaphore_acquire;
    friend class detail::semaphore_acquire_for;

    // The number of permits, times two, and a bit.
    enum : std::size_t { waited_for = 1, one = 2 };

    bool take(std::size_t n) noexcept {
        std::size_t seen = state_.load(sync::memory_order_relaxed);
        while (!(seen & waited_for) && seen / one >= n)
            if (state_.compare_exchange_weak(seen, seen - n * one, sync::memory_order_acquire,
                                             sync::memory_order_relaxed))
                return true;
        return false;
    }
    void add(std::size_t n) noexcept;

    const char *what() const noexcept override { return "semaphore"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    sync::atomic<std::size_t> state_;
};

// --- Implementation ---

namespace detail {

class [[nodiscard]] semaphore_acquire final : public wait_entry {
public:
    static constexpr bool keeps_result = true;

    semaphore_acquire(semaphore &s, std::size_t n) noexcept : wait_entry(s, n), semaphore_(s) {}
    bool await_ready() noexcept { return semaphore_.take(amount()); }
    semaphore::permit await_resume() noexcept { return {semaphore_, amount()}; }

private:
    semaphore &semaphore_;
};

class [[nodiscard]] semaphore_acquire_for final : public timed_entry {
public:
    static constexpr bool keeps_result = true;

    semaphore_acquire_for(semaphore &s, std::int64_t limit, std::size_t n) noexcept
        : timed_entry(s, limit, n), semaphore_(s) {}
    bool await_ready() noexcept { return semaphore_.take(amount()) || ends_at_once(); }
    result<semaphore::permit> await_resume() noexcept {
        if (had())
            return semaphore::permit(semaphore_, amount());
        return unexpected(failure());
    }

private:
    semaphore &semaphore_;
};

} // namespace detail

inline detail::semaphore_acquire semaphore::acquire(std::size_t n) noexcept {
    return {*this, n};
}
template <class Rep, class Period>
detail::semaphore_acquire_for semaphore::acquire_for(std::chrono::duration<Rep, Period> limit,
                                                     std::size_t n) {
    return {*this, detail::nanoseconds_of(limit), n};
}
template <class Clock, class Duration>
detail::semaphore_acquire_for semaphore::acquire_until(std::chrono::time_point<Clock, Duration> when,
                                                       std::size_t n) {
    return {*this, detail::nanoseconds_until(when), n};
}

} // namespace parley::inline PARLEY_ABI
