// Several things at once, and none of them lost: prices are asked for by when_all, when_any and with_timeout,
// and what is given up has ended before the next line runs, on the wire too.
// Run it: the shop is a server of its own that takes as many milliseconds for an answer as it is asked to.

#include <chrono>
#include <exception>
#include <iostream>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};
using shop = parley::client<lines>;

parley::task<> sell(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv()) {
        co_await parley::sleep_for(std::chrono::milliseconds(std::stoi(std::string(asked->text()))));
        if (auto sent = co_await peer.send(*asked); !sent) // who has gone meanwhile cancels this task
            co_return;
    }
}

parley::task<std::string> price(shop &where, const char *milliseconds) {
    auto answer = co_await where.request(parley::line_message(milliseconds));
    co_return std::string(answer.value().text()) + " euros";
}

// [together]
parley::task<> compare(shop &where) {
    auto [quick, slow] = co_await parley::when_all(price(where, "10"), price(where, "20"));
    std::cout << "both: " << quick << ", " << slow << std::endl;

    auto first = co_await parley::when_any(price(where, "5000"), price(where, "10"));
    std::cout << "first: number " << first.index() << ", " << std::get<1>(first) << std::endl;

    auto late = co_await parley::with_timeout(100ms, price(where, "5000"));
    std::cout << "late: " << late.error() << std::endl;
}
// [/together]

// [finally]
parley::task<> shop_and_go_home(shop &where) {
    auto go_home = []() -> parley::task<> { // however compare() ends, and if it is cancelled
        co_await parley::sleep_for(1ms);
        std::cout << "home" << std::endl;
    };
    co_await parley::finally(compare(where), go_home);
}
// [/finally]

parley::task<> market() {
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), sell);
    auto local = co_await door.listen();
    shop where(local.value());
    co_await shop_and_go_home(where);
}

int main(int argc, char **argv) {
    parse_arguments(argc, argv, "");
    try {
        parley::run(market());
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
