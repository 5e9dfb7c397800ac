// parley and the standard library: a thread that is told to stop ends what it waits for, a task's frame comes
// from an arena, and an error is compared with a code.
// Run it: it prints what each of them did.

#include <array>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <memory_resource>
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
    parley::runtime &rt = parley::this_loop().runtime();
    std::jthread worker([&rt](std::stop_token stop) { work_until_told(stop, rt); });
    worker.request_stop();
    co_await parley::compute([&worker] { worker.join(); });
    co_await use_an_arena();
    co_await compare_codes();
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, everything());
}
