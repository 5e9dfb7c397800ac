#include "ground.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <utility>

#include <parley/core/Sys.h>
#include <parley/sim/world.hpp>

namespace matrix {

namespace {

constexpr std::chrono::seconds hang_guard{60};

parley::runtime_options two_loops() {
    parley::runtime_options options;
    options.loops = 2;
    options.executor_threads = 1; // so that one computation keeps the next from beginning
    return options;
}

} // namespace

void nap(std::chrono::nanoseconds time) {
    if (parley::sim::world *world = parley::sim::world::current()) {
        world->sleep(time);
        return;
    }
    const auto end = parley::sys::monotonic_ns() + time.count();
    while (parley::sys::monotonic_ns() < end)
        parley::sync::yield();
}

void linger(unsigned n) {
    if (parley::sim::world *world = parley::sim::world::current()) {
        for (n %= 8; n > 0; --n)
            world->point();
        return;
    }
    nap(std::chrono::nanoseconds(n));
}

lane::lane() {
    thread_ = parley::sync::thread([this] { work(); });
}

lane::~lane() {
    {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        ends_ = true;
        given_.notify_all();
    }
    thread_.join();
}

void lane::give(std::function<void()> job) {
    parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
    if (job_)
        job = [before = std::move(job_), after = std::move(job)] {
            before();
            after();
        };
    job_ = std::move(job);
    given_.notify_all();
}

void lane::work() {
    for (;;) {
        std::function<void()> job;
        {
            parley::sync::unique_lock<parley::sync::mutex> lock(mutex_);
            given_.wait(lock, [this] { return ends_ || job_; });
            if (!job_)
                return;
            job = std::exchange(job_, nullptr);
        }
        job();
    }
}

ground::ground() : rt(two_loops()) {}

void ground::run(task<> work) {
    parley::sync::mutex mutex;
    parley::sync::condition_variable ended;
    bool done = false;
    rt.start(rt.loop(0), std::move(work), [&](parley::outcome<> how) {
        expect(!how.stopped() && !how.exception(), "the driver did not come to its end");
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex);
        done = true;
        ended.notify_all();
    });
    parley::sync::unique_lock<parley::sync::mutex> lock(mutex);
    std::string before;
    while (!ended.wait_for(lock, hang_guard, [&] { return done; })) {
        parley::sync::lock_guard<parley::sync::mutex> ours(mutex_);
        if (cell_ != before) {
            before = cell_; // slow, but it moves
            continue;
        }
        std::fprintf(stderr, "hang guard: %s\n", cell_.c_str());
        std::abort();
    }
}

void ground::expect(bool holds, const char *otherwise) noexcept {
    if (holds)
        return;
    parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
    if (fault_.empty())
        fault_ = cell_ + ": " + otherwise;
}

std::string ground::fault() {
    parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
    return fault_;
}

void ground::now_in(std::string cell) {
    parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
    cell_ = std::move(cell);
}

task<> ground::quiet() {
    // By way of the loop, behind what the lane has posted there.
    auto idle = [this](lane &one) {
        return parley::from_callback([this, &one](auto &done) {
            one.give([this, &done] {
                rt.start(rt.loop(0), []() -> task<> { co_return; }, [&done](parley::outcome<>) { done(); });
            });
        });
    };
    co_await idle(first);
    co_await idle(second);
}

void ground::race(std::function<void()> one, std::function<void()> other) {
    at_the_line_.store(0, parley::sync::memory_order_relaxed);
    auto start = [this](std::function<void()> run) {
        return [this, run = std::move(run)] {
            at_the_line_.fetch_add(1, parley::sync::memory_order_acq_rel);
            while (at_the_line_.load(parley::sync::memory_order_acquire) < 2)
                parley::sync::yield();
            run();
        };
    };
    first.give(start(std::move(one)));
    second.give(start(std::move(other)));
}

task<> ground::until(std::function<bool()> holds, const char *otherwise) {
    for (int i = 0; i < 50'000; ++i) {
        if (holds())
            co_return;
        if (i < 20)
            co_await parley::yield();
        else
            co_await parley::sleep_for(50us);
    }
    expect(false, otherwise);
}

std::size_t ground::descriptors() {
    if (parley::sim::world *world = parley::sim::world::current())
        return world->local().descriptors();
    namespace fs = std::filesystem;
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

} // namespace matrix
