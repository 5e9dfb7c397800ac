// Time, other threads, and what is somebody else's.

#include "driver.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <unistd.h>

#include <parley/core/Sys.h>
#include <parley/sim/world.hpp>

namespace matrix {

namespace {

// Begins soon when it is to complete by itself, else in an hour.
class a_sleep final : public subject {
public:
    using subject::subject;
    void arrange(moment when) override { time_ = when == moment::completion ? due() : 1h; }
    task<> wait() override { co_await parley::sleep_for(time_); }
    std::chrono::nanoseconds due() const override { return 30us; }

private:
    std::chrono::nanoseconds time_{};
};

class a_yield final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { enough_.store(false, parley::sync::memory_order_relaxed); }
    task<> wait() override {
        while (!enough_.load(parley::sync::memory_order_relaxed))
            co_await parley::yield();
    }
    void complete() override { enough_.store(true, parley::sync::memory_order_relaxed); }

private:
    parley::sync::atomic<bool> enough_{false};
};

// A flag that threads wait for.
class flag {
public:
    void set(bool on) {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        on_ = on;
        changed_.notify_all();
    }
    void wait() {
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return on_; });
    }

private:
    parley::sync::mutex mutex_;
    parley::sync::condition_variable changed_;
    bool on_ = false;
};

// The Executor's one thread is busy, so what is awaited does not begin before that is over.
class behind_another : public subject {
public:
    using subject::subject;
    void arrange(moment) override {
        go_.set(false);
        busy_.store(false, parley::sync::memory_order_relaxed);
        ended_.reset();
        g.rt.start(
            g.rt.loop(1),
            [this]() -> task<> {
                co_await parley::compute([this] {
                    busy_.store(true, parley::sync::memory_order_release);
                    go_.wait();
                });
            },
            [this](parley::outcome<>) { ended_.set(); });
    }
    task<> until_waiting() override {
        co_await g.until([this] { return busy_.load(parley::sync::memory_order_acquire); }, "not busy");
        co_await yields(3);
    }
    void complete() override { go_.set(true); }
    task<> check(fate) override {
        go_.set(true);
        co_await ended_.wait();
        // The thread is there for others.
        const int value = co_await parley::compute([] { return 5; });
        g.expect(value == 5, "wrong value");
    }

protected:
    flag go_;
    parley::sync::atomic<bool> busy_{false};
    parley::event ended_;
};

class a_compute_before_it_starts final : public behind_another {
public:
    using behind_another::behind_another;
    task<> wait() override {
        int here = 0; // used by the other thread: it must have let go when this ends
        co_await parley::compute([&here] { here = 1; });
        g.expect(here == 1, "not computed");
    }
    task<> until_waiting() override {
        // The other one has the thread before this one is queued, or comes behind it: either may be.
        return yields(4);
    }
    std::optional<fate> cancelled_during() const override { return std::nullopt; }
    task<> check(fate how) override { return behind_another::check(how); }
};

class a_resolve final : public behind_another {
public:
    using behind_another::behind_another;
    task<> wait() override { auto found = co_await parley::resolve(parley::endpoint("localhost", 80)); }
    std::optional<fate> cancelled_during() const override { return std::nullopt; }
};

class a_compute_that_runs final : public subject {
public:
    using subject::subject;
    void arrange(moment) override {
        go_.set(false);
        runs_.store(false, parley::sync::memory_order_relaxed);
    }
    task<> wait() override {
        int here = 0;
        co_await parley::compute([this, &here] {
            runs_.store(true, parley::sync::memory_order_release);
            go_.wait();
            here = 1;
        });
        g.expect(here == 1, "not computed");
    }
    task<> until_waiting() override {
        return g.until([this] { return runs_.load(parley::sync::memory_order_acquire); }, "it does not run");
    }
    void complete() override { go_.set(true); }
    bool must_complete() const override { return true; }

private:
    flag go_;
    parley::sync::atomic<bool> runs_{false};
};

class a_file : public subject {
public:
    using subject::subject;
    task<> begin() override {
        path_ = parley::sim::world::current() ? std::string("/matrix")
                                              : "/tmp/parley-matrix-" + std::to_string(::getpid());
        auto made = parley::file::open(path_, parley::file_mode::read_write);
        g.expect(made.has_value(), "no file");
        file_ = std::move(*made);
        const std::string text(1 << 16, 'x');
        auto written = co_await file_.write_at(0, text);
        g.expect(written == text.size(), "not written");
    }
    task<> wait() override {
        std::string room(1 << 16, ' '); // no byte may come after the wait has ended
        auto read = co_await file_.read_at(0, room);
        g.expect(read == room.size() && room.back() == 'x', "not read");
        auto synced = co_await file_.sync_data();
        auto written = co_await file_.write_at(10, std::string_view("xxx"));
        g.expect(written == 3u, "not written");
    }
    task<> until_waiting() override { return yields(1); }
    std::chrono::nanoseconds due() const override { return 50us; }
    std::optional<fate> cancelled_during() const override { return std::nullopt; }
    task<> end() override {
        file_ = parley::file();
        if (!parley::sim::world::current()) {
            std::error_code ignored;
            std::filesystem::remove(path_, ignored);
        }
        co_return;
    }

private:
    std::string path_;
    parley::file file_;
};

class a_signal final : public subject {
public:
    using subject::subject;
    // A signal that comes when nobody waits any more is ignored.
    task<> begin() override {
        struct sigaction ignored = {};
        ignored.sa_handler = SIG_IGN;
        parley::sys::current().sigaction(SIGUSR1, &ignored, &before_);
        co_return;
    }
    task<> end() override {
        struct sigaction now = {};
        parley::sys::current().sigaction(SIGUSR1, &before_, &now);
        g.expect(now.sa_handler == SIG_IGN, "the old disposition did not come back");
        co_return;
    }
    task<> wait() override {
        const int which = co_await parley::wait_signal(SIGUSR1);
        g.expect(which == SIGUSR1, "another signal");
    }
    void complete() override {
        if (parley::sim::world *world = parley::sim::world::current())
            world->raise(SIGUSR1);
        else
            // Loops block signals. On a thread that does not, it has been handled when this returns: one sent to the
            // process would be when the kernel, or a sanitizer, finds the time, perhaps in the next round.
            std::thread([] {
                sigset_t one;
                sigemptyset(&one);
                sigaddset(&one, SIGUSR1);
                pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
                pthread_kill(pthread_self(), SIGUSR1);
            }).join();
    }

private:
    struct sigaction before_ = {};
};

// An API with callbacks: at most one is registered, and who takes it out calls it.
class callbacks {
public:
    using done = parley::callback_done<int>;
    void add(done &one) {
        bool now = false;
        {
            parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
            now = fired_;
            if (!now)
                waiting_ = &one;
        }
        if (now)
            one(1);
    }
    bool remove() {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        return std::exchange(waiting_, nullptr) != nullptr;
    }
    void fire() {
        done *one = nullptr;
        {
            parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
            fired_ = true;
            one = std::exchange(waiting_, nullptr);
        }
        if (one)
            (*one)(1);
    }
    void reset() {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        fired_ = false;
    }

private:
    parley::sync::mutex mutex_;
    done *waiting_ = nullptr;
    bool fired_ = false;
};

enum class hook { none, removes, asks };

template <hook How>
class a_callback final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { api_.reset(); }
    task<> wait() override {
        auto start = [this](auto &done) { api_.add(done); };
        int value = 0;
        if constexpr (How == hook::none) {
            value = co_await parley::from_callback<int>(start);
        } else if constexpr (How == hook::removes) {
            auto remove = [this] { return api_.remove(); };
            value = co_await parley::from_callback<int>(start, remove);
        } else {
            auto ask = [this] { api_.fire(); };
            value = co_await parley::from_callback<int>(start, ask);
        }
        g.expect(value == 1, "wrong value");
    }
    void complete() override { api_.fire(); }
    bool must_complete() const override { return How == hook::none; }

private:
    callbacks api_;
};

// Somebody else's awaitable, resumed by whatever thread; it cannot be cancelled.
class a_foreign_awaitable final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { state_.store(nullptr, parley::sync::memory_order_relaxed); }
    task<> wait() override { co_await foreign{state_}; }
    void complete() override {
        void *waits = state_.exchange(this, parley::sync::memory_order_acq_rel);
        if (waits)
            std::coroutine_handle<>::from_address(waits).resume();
    }
    bool must_complete() const override { return true; }

private:
    struct foreign {
        parley::sync::atomic<void *> &state;
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> h) const noexcept {
            void *none = nullptr;
            return state.compare_exchange_strong(none, h.address(), parley::sync::memory_order_acq_rel);
        }
        void await_resume() const noexcept {}
    };
    parley::sync::atomic<void *> state_{nullptr};
};

} // namespace

std::vector<kind> callback_kinds() {
    return {
        {"sleep", make<a_sleep>},
        {"yield", make<a_yield>},
        {"compute before it starts", make<a_compute_before_it_starts>},
        {"compute that runs", make<a_compute_that_runs>},
        {"resolve", make<a_resolve>},
        {"file", make<a_file>, 2},
        {"signal", make<a_signal>},
        {"callback without a hook", make<a_callback<hook::none>>},
        {"callback that is removed", make<a_callback<hook::removes>>},
        {"callback that is hurried", make<a_callback<hook::asks>>},
        {"foreign awaitable", make<a_foreign_awaitable>},
    };
}

} // namespace matrix
