// Call stacks that are not ours: the C library's sort, whose comparison asks a server, and a visitor that goes
// down a tree by plain recursion. Both await with parley::await(), on a fiber's stack; the loop goes on.
// Run it: it prints rivers by length, the sum of a deep visit, and how a sort ends whose time is up.

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};
using atlas = parley::client<lines>;

parley::task<> tell_length(parley::connection<lines> peer) { // of a river; of an unknown one after an hour
    while (auto river = co_await peer.recv()) {
        if (river->text() == "Styx")
            co_await parley::sleep_for(1h);
        const char *km = river->text() == "Aare" ? "288" : river->text() == "Elbe" ? "1094" : "2850";
        if (auto sent = co_await peer.send(parley::line_message(km)); !sent)
            co_return;
    }
}

// [sort]
extern "C" int by_length(const void *left, const void *right, void *where) {
    auto length = [&](const void *river) { // two plain functions below the fiber
        auto asked = parley::line_message(*static_cast<const char *const *>(river));
        auto answer = parley::await(static_cast<atlas *>(where)->request(std::move(asked)));
        return std::stoi(std::string(answer.value().text()));
    };
    return length(left) - length(right);
}

parley::task<> sort(atlas &where, const char *third) {
    const char *rivers[] = {"Donau", "Elbe", third};
    co_await parley::in_fiber([&] { qsort_r(rivers, 3, sizeof *rivers, by_length, &where); });
    std::cout << rivers[0] << ", " << rivers[1] << ", " << rivers[2] << std::endl;
}
// [/sort]

// [visit]
void visit(int depth, const std::function<void(int)> &each) { // a tree's visitor, say
    each(depth);
    if (depth > 1)
        visit(depth - 1, each);
}

parley::task<long> weigh(int depth) {
    auto deep = parley::fiber_options().stack_size(std::size_t{8} << 20);
    co_return co_await parley::in_fiber(deep, [&] {
        long sum = 0;
        visit(depth, [&](int at) { sum += parley::await(parley::compute([&] { return at; })); });
        return sum;
    });
}
// [/visit]

parley::task<> explore() {
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), tell_length);
    auto local = co_await door.listen();
    atlas where(local.value());
    co_await sort(where, "Aare");
    std::cout << "2000 deep: " << co_await weigh(2000) << std::endl;
    auto late = co_await parley::with_timeout(100ms, sort(where, "Styx"));
    std::cout << late.error() << std::endl;
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, explore());
}
