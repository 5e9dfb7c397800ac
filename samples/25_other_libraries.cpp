// parley among others: a thread that is told to stop ends a task, somebody else's timer is awaited and told to
// stop, somebody else's coroutine awaits parley, and a task's frame comes from an arena.
// Run it: it prints what each of them did.

#include <array>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <iostream>
#include <memory_resource>
#include <mutex>
#include <stop_token>
#include <thread>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// [token]
// A worker of the program's, on a thread of its own: when it is told to stop, so is what it waits for.
void work_until_told(std::stop_token stop, parley::runtime &rt) {
    auto slept = rt.sync_wait([](std::stop_token told) -> parley::task<parley::result<void>> {
        co_return co_await parley::with_stop_token(told, parley::sleep_for(1h));
    }(stop));
    std::cout << "worker: " << slept.error().message() << std::endl;
}
// [/token]

// [theirs]
// Somebody else's timer: resumes on a thread of its own. It takes a std::stop_token, so parley gives it one.
class their_timer {
public:
    explicit their_timer(std::chrono::milliseconds time) : time_(time) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting, std::stop_token stop) {
        thread_ = std::jthread([awaiting, stop, time = time_] {
            std::mutex mutex;
            std::unique_lock lock(mutex);
            std::condition_variable_any().wait_for(lock, stop, time, [] { return false; });
            awaiting.resume(); // parley brings the task home to its loop
        });
    }
    void await_resume() const noexcept {}

private:
    std::chrono::milliseconds time_;
    std::jthread thread_;
};

parley::task<> wait_for_them() {
    co_await their_timer(1ms);
    auto late = co_await parley::with_timeout(10ms, their_timer(1h)); // told to stop after 10 ms
    std::cout << "their timer: " << late.error().message() << std::endl;
}
// [/theirs]

// [guest]
// Somebody else's coroutine. On a loop it awaits what is parley's like its own.
struct their_job {
    struct promise_type {
        their_job get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};

their_job count_to_three(parley::channel<int> &out) {
    for (int i = 1; i <= 3; ++i) {
        co_await parley::sleep_for(1ms);
        if (auto pushed = co_await out.push(i); !pushed)
            co_return;
    }
    out.close();
}

parley::task<> listen_to_them() {
    auto numbers = parley::channel<int>::bounded(1);
    count_to_three(numbers);
    while (auto number = co_await numbers.pop())
        std::cout << "their job: " << *number << std::endl;
}
// [/guest]

// [arena]
// The frame of this task comes from the allocator that it is given first.
parley::task<int> add(std::allocator_arg_t, std::pmr::polymorphic_allocator<>, int a, int b) {
    co_await parley::yield();
    co_return a + b;
}

parley::task<> use_an_arena() {
    std::array<std::byte, 4096> place;
    std::pmr::monotonic_buffer_resource arena(place.data(), place.size(), std::pmr::null_memory_resource());
    const std::pmr::polymorphic_allocator<> from(&arena);
    const int sum = co_await add(std::allocator_arg, from, 2, 3);
    std::cout << "from an arena: " << sum << std::endl;
}
// [/arena]

// [codes]
parley::task<> compare_codes() {
    auto nobody = parley::client<lines>(parley::endpoint("127.0.0.1", 1));
    auto answer = co_await nobody.request(parley::line_message("hello"));
    if (!answer && answer.error() == std::errc::connection_refused) { // any std::errc, any category
        const std::error_code code = answer.error().code();           // for code that knows no parley
        std::cout << "as a code: " << code.message() << std::endl;
    }
}
// [/codes]

parley::task<> everything() {
    {
        std::jthread worker;
        parley::runtime &rt = parley::this_loop().runtime();
        worker = std::jthread([&rt](std::stop_token stop) { work_until_told(stop, rt); });
        worker.request_stop();
        co_await parley::compute([&worker] { worker.join(); });
    }
    co_await wait_for_them();
    co_await listen_to_them();
    co_await use_an_arena();
    co_await compare_codes();
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, everything());
}
