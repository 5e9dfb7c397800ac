// What the coroutine layer's own parts cost, without a socket: nanoseconds and allocations each, by Google
// Benchmark. Every case runs inside a task on one loop.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <new>

#include <benchmark/benchmark.h>
#include <parley/parley.hpp>

namespace {
std::atomic<std::size_t> allocations{0};
}

// Not inlined: g++ would take malloc's and delete's pairing for a mistake.
[[gnu::noinline]] void *operator new(std::size_t size) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    if (void *memory = std::malloc(size ? size : 1))
        return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

using namespace std::chrono_literals;
using parley::task;

// Counts what a case allocates from here on, each time round.
class allocations_of {
public:
    explicit allocations_of(benchmark::State &state) : state_(state) {}
    allocations_of(const allocations_of &) = delete;
    ~allocations_of() {
        const auto made = static_cast<double>(allocations.load() - before_);
        state_.counters["allocs"] = benchmark::Counter(made, benchmark::Counter::kAvgIterations);
    }

private:
    benchmark::State &state_;
    std::size_t before_ = allocations.load();
};

// A case as Google Benchmark wants it: runs the task on one loop, where the thread's pools are warm from the
// runs before.
template <task<> (*Case)(benchmark::State &)>
void on_a_loop(benchmark::State &state) {
    static parley::runtime ground([] {
        parley::runtime_options one;
        one.loops = 1;
        one.executor_threads = 1;
        return one;
    }());
    ground.sync_wait(Case(state));
}

task<int> trivial(int value) {
    co_return value;
}
task<> nothing() {
    co_return;
}

task<> await_a_task(benchmark::State &state) {
    allocations_of counted(state);
    int sum = 0;
    for (auto _ : state)
        sum += co_await trivial(1);
    benchmark::DoNotOptimize(sum);
}
BENCHMARK(on_a_loop<await_a_task>)->Name("await a task");

task<> await_in_a_fiber(benchmark::State &state) {
    auto call = [&] {
        const allocations_of counted(state);
        for (auto _ : state)
            benchmark::DoNotOptimize(parley::await(trivial(1)));
    };
    co_await parley::in_fiber(call);
}
BENCHMARK(on_a_loop<await_in_a_fiber>)->Name("await a task in a fiber");

task<> yields(benchmark::State &state) {
    allocations_of counted(state);
    for (auto _ : state)
        co_await parley::yield();
}
BENCHMARK(on_a_loop<yields>)->Name("yield");

task<> spawn_and_finish(benchmark::State &state) {
    allocations_of counted(state);
    co_await parley::with_scope([&](parley::scope &all) -> task<> {
        for (auto _ : state) {
            all.spawn(nothing());
            if (all.children() == 64) // so many at a time
                co_await parley::yield();
        }
    });
}
BENCHMARK(on_a_loop<spawn_and_finish>)->Name("spawn and finish");

task<> all_of_ten(benchmark::State &state) {
    allocations_of counted(state);
    int sum = 0;
    for (auto _ : state) {
        auto values = co_await parley::when_all(trivial(1), trivial(2), trivial(3), trivial(4), trivial(5),
                                                trivial(6), trivial(7), trivial(8), trivial(9), trivial(10));
        sum += std::get<9>(values);
    }
    benchmark::DoNotOptimize(sum);
}
BENCHMARK(on_a_loop<all_of_ten>)->Name("when_all of 10 tasks");

task<> any_of_two(benchmark::State &state) {
    allocations_of counted(state);
    for (auto _ : state) {
        auto first = co_await parley::when_any(parley::yield(), parley::sleep_for(1h));
        benchmark::DoNotOptimize(first);
    }
}
BENCHMARK(on_a_loop<any_of_two>)->Name("when_any of a yield and a sleep");

task<> in_time(benchmark::State &state) {
    allocations_of counted(state);
    for (auto _ : state) {
        auto done = co_await parley::with_timeout(1h, trivial(1));
        benchmark::DoNotOptimize(done);
    }
}
BENCHMARK(on_a_loop<in_time>)->Name("with_timeout of a task");

task<> lock_and_unlock(benchmark::State &state) {
    allocations_of counted(state);
    parley::mutex m;
    for (auto _ : state) {
        auto guard = co_await m.lock();
        benchmark::DoNotOptimize(guard);
    }
}
BENCHMARK(on_a_loop<lock_and_unlock>)->Name("mutex lock and unlock");

task<> push_and_pop(benchmark::State &state) {
    auto c = parley::channel<int>::bounded(16);
    allocations_of counted(state);
    for (auto _ : state) {
        auto pushed = co_await c.push(1);
        auto popped = co_await c.pop();
        benchmark::DoNotOptimize(popped);
    }
}
BENCHMARK(on_a_loop<push_and_pop>)->Name("channel push and pop");

task<> sleep_an_hour() {
    co_await parley::sleep_for(1h);
}
task<> cancel_many(benchmark::State &state) {
    for (auto _ : state) {
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            state.PauseTiming();
            for (int i = 0; i < 10'000; ++i)
                all.spawn(sleep_an_hour());
            co_await parley::yield();
            co_await parley::yield();
            state.ResumeTiming();
            all.cancel();
        });
    }
}
BENCHMARK(on_a_loop<cancel_many>)->Name("cancel 10000 sleeping tasks")->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
