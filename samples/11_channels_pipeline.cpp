// A pipeline of stages that are joined by channels: a source, three workers and a sink. A full channel
// makes the stage before it wait, so memory is bounded by their widths; closing it ends the stage behind.
// Run it: it prints how far the source was ever ahead of the sink, and how it all ends.

#include <algorithm>
#include <cstdint>
#include <iostream>

#include <parley/parley.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;
using numbers = parley::channel<std::uint64_t>;

// [stages]
parley::task<> source(std::uint64_t last, numbers &out, int &made) {
    for (std::uint64_t n = 1; n <= last; n++) {
        made++;
        if (auto sent = co_await out.push(n); !sent) // waits while it is full
            co_return;                               // closed by the stage behind: nobody wants more
    }
    out.close(); // who feeds a channel closes it
}

parley::task<> work(numbers &in, numbers &out) {
    while (auto n = co_await in.pop()) { // until it is closed, and empty
        const std::uint64_t square = co_await parley::compute([&] { return *n * *n; });
        if (auto sent = co_await out.push(square); !sent)
            co_return;
    }
}

parley::task<> three_workers(numbers &in, numbers &out) {
    co_await parley::when_all(work(in, out), work(in, out), work(in, out));
    out.close(); // when the last of them has ended: the end goes down the pipeline,
    in.close();  // and up
}
// [/stages]

// [sink]
parley::task<> sink(numbers &in, numbers &stop, const int &made) {
    std::uint64_t sum = 0;
    int taken = 0, ahead = 0;
    for (;;) {
        auto next = co_await parley::select(stop.pop(), in.pop()); // one of them, the first that can
        if (next.index() == 0 || !std::get<1>(next))
            break;
        sum += *std::get<1>(next);
        ahead = std::max(ahead, made - ++taken);
    }
    const auto left = in.drain(); // closes, so the stages before it end at their next push
    std::cout << taken << " squares, sum " << sum << ", at most " << ahead << " ahead, " << left.size()
              << " left" << std::endl;
}
// [/sink]

parley::task<> pipeline(std::uint64_t last, std::chrono::milliseconds patience) {
    auto raw = numbers::bounded(4), squares = numbers::bounded(4);
    auto stop = numbers::rendezvous(); // holds nothing: a push ends when its value is taken
    int made = 0;
    auto press_stop = [&]() -> parley::task<> {
        co_await parley::sleep_for(patience);
        auto told = co_await stop.push(0); // until the sink takes it
    };
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        all.spawn(press_stop);
        co_await parley::when_all(source(last, raw, made), three_workers(raw, squares),
                                  sink(squares, stop, made));
        all.cancel();
    });
}

int main(int argc, char **argv) {
    const int failed = run_sample(argc, argv, pipeline(1000, 1h));
    return failed ? failed : run_sample(argc, argv, pipeline(UINT64_MAX, 50ms));
}
