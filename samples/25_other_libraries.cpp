// parley among other libraries: somebody else's timer is awaited and told to stop, and somebody else's
// coroutine awaits what is parley's.
// Run it: it prints what each of them did.

#include <chrono>
#include <iostream>

#include <parley/parley.hpp>

#include "others.hpp"
#include "run_sample.hpp"

using namespace std::chrono_literals;

// [wait]
parley::task<> wait_for_them() {
    co_await their_timer(1ms);
    auto late = co_await parley::with_timeout(10ms, their_timer(1h)); // told to stop after 10 ms
    std::cout << "their timer: " << late.error().message() << std::endl;
}
// [/wait]

// [guest]
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

parley::task<> everything() {
    co_await wait_for_them();
    co_await listen_to_them();
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, everything());
}
