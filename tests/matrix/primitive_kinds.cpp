// Locks, counts and signals between tasks.

#include "driver.hpp"

#include <utility>

namespace matrix {

namespace {

// A lock that somebody holds; Form says how it is taken and by whom.
template <class Form>
class a_lock final : public subject {
public:
    using subject::subject;
    void arrange(moment) override {
        held_ = lock_.try_lock();
        g.expect(held_.owns_lock(), "the lock is not free");
    }
    task<> wait() override { return Form::take(lock_); }
    void complete() override { held_.unlock(); }
    task<> check(fate) override {
        held_.unlock();
        auto free = lock_.try_lock();
        g.expect(free.owns_lock(), "the lock is lost");
        co_return;
    }

private:
    using lock = typename Form::lock;
    lock lock_;
    typename lock::guard held_;
};

struct take_mutex {
    using lock = parley::mutex;
    static task<> take(lock &m) { auto mine = co_await m.lock(); }
};
struct take_mutex_for {
    using lock = parley::mutex;
    static task<> take(lock &m) { auto mine = co_await m.lock_for(1h); }
};
struct take_shared {
    using lock = parley::shared_mutex;
    static task<> take(lock &m) { auto mine = co_await m.lock_shared(); }
};
struct take_exclusive {
    using lock = parley::shared_mutex;
    static task<> take(lock &m) { auto mine = co_await m.lock(); }
};
struct take_exclusive_for {
    using lock = parley::shared_mutex;
    static task<> take(lock &m) { auto mine = co_await m.lock_for(1h); }
};

// Three wait for one mutex: a cancel of the first must not keep it from the others.
class a_queue_of_locks final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { held_ = lock_.try_lock(); }
    task<> wait() override {
        co_await parley::when_all(take_mutex::take(lock_), take_mutex_for::take(lock_),
                                  take_mutex::take(lock_));
    }
    void complete() override { held_.unlock(); }
    task<> check(fate) override {
        held_.unlock();
        g.expect(lock_.try_lock().owns_lock(), "the lock is lost");
        co_return;
    }

private:
    parley::mutex lock_;
    parley::mutex::guard held_;
};

template <bool Timed>
class a_condition final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { holds_.store(false, parley::sync::memory_order_relaxed); }
    task<> wait() override {
        auto held = co_await lock_.lock();
        auto holds = [this] { return holds_.load(parley::sync::memory_order_acquire); };
        if constexpr (Timed) {
            auto in_time = co_await condition_.wait_for(held, 1h, holds);
            g.expect(in_time.has_value(), "the hour is not over");
        } else {
            co_await condition_.wait(held, holds);
        }
        g.expect(held.owns_lock(), "back without the lock");
    }
    void complete() override {
        // The task waits already, so it needs no lock to tell it; the lock may be its own by now.
        holds_.store(true, parley::sync::memory_order_release);
        condition_.notify_one();
    }
    task<> check(fate) override {
        g.expect(lock_.try_lock().owns_lock(), "the lock is lost");
        co_return;
    }

private:
    parley::mutex lock_;
    parley::condition condition_;
    parley::sync::atomic<bool> holds_{false};
};

class a_semaphore final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { held_ = permits_.try_acquire(3); }
    task<> wait() override { auto mine = co_await permits_.acquire(2); }
    void complete() override { held_.give_back(); }
    task<> check(fate) override {
        held_.give_back();
        g.expect(permits_.available() == 3, "permits are lost");
        co_return;
    }

private:
    parley::semaphore permits_{3};
    parley::semaphore::permit held_;
};

class a_semaphore_in_time final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { held_ = permits_.try_acquire(1); }
    task<> wait() override { auto mine = co_await permits_.acquire_for(1h); }
    void complete() override { held_.give_back(); }
    task<> check(fate) override {
        held_.give_back();
        g.expect(permits_.available() == 1, "permits are lost");
        co_return;
    }

private:
    parley::semaphore permits_{1};
    parley::semaphore::permit held_;
};

class a_manual_event final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { event_.reset(); }
    task<> wait() override { co_await event_.wait(); }
    void complete() override { event_.set(); }

private:
    parley::event event_;
};

// What set it ends one wait or stays: never both, never neither.
template <bool Timed>
class an_automatic_event final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { set_ = false; }
    task<> wait() override {
        if constexpr (Timed)
            auto in_time = co_await event_.wait_for(1h);
        else
            co_await event_.wait();
    }
    void complete() override {
        set_ = true;
        event_.set();
    }
    task<> check(fate how) override {
        const bool left = event_.try_wait();
        g.expect(left == (set_ && how != fate::finished), "a signal is lost, or was felt twice");
        co_return;
    }

private:
    parley::event event_{parley::reset::automatic};
    bool set_ = false;
};

class a_latch final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { latch_.emplace(2); }
    task<> wait() override { co_await latch_->arrive_and_wait(); }
    void complete() override {
        latch_->count_down();
        down_ = true;
    }
    task<> check(fate) override {
        if (!std::exchange(down_, false))
            latch_->count_down();
        co_return;
    }

private:
    std::optional<parley::latch> latch_;
    bool down_ = false;
};

class a_rate_limiter final : public subject {
public:
    using subject::subject;
    void arrange(moment when) override {
        // In an hour, or soon.
        limiter_.emplace(when == moment::completion ? 10'000.0 : 1.0 / 3600, 1);
        g.expect(limiter_->try_acquire(), "the first is free");
    }
    task<> wait() override { co_await limiter_->acquire(); }
    std::chrono::nanoseconds due() const override { return 100us; }
    std::optional<fate> cancelled_during() const override { return fate::cancelled; }

private:
    std::optional<parley::rate_limiter> limiter_;
};

} // namespace

std::vector<kind> primitive_kinds() {
    return {
        {"mutex", make<a_lock<take_mutex>>},
        {"mutex, timed", make<a_lock<take_mutex_for>>},
        {"a queue of locks", make<a_queue_of_locks>},
        {"shared_mutex, shared", make<a_lock<take_shared>>},
        {"shared_mutex, exclusive", make<a_lock<take_exclusive>>},
        {"shared_mutex, exclusive and timed", make<a_lock<take_exclusive_for>>},
        {"condition", make<a_condition<false>>},
        {"condition, timed", make<a_condition<true>>},
        {"semaphore", make<a_semaphore>},
        {"semaphore, timed", make<a_semaphore_in_time>},
        {"manual event", make<a_manual_event>},
        {"automatic event", make<an_automatic_event<false>>},
        {"automatic event, timed", make<an_automatic_event<true>>},
        {"latch", make<a_latch>},
        {"rate_limiter", make<a_rate_limiter>},
    };
}

} // namespace matrix
