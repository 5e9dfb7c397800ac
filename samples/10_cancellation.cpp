// Cancellation: a task that is told to stop ends at the await in which it stands, and unwinds. Who tells it:
// a scope, another thread, a peer that has gone. What it may still do: finish, tidy up, say why.
// Run it: it prints what ends, in which order.

#include <iostream>
#include <stop_token>
#include <thread>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "rude_client.hpp"
#include "run_sample.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

struct farewell {
    const char *name;
    ~farewell() { std::cout << name << " unwinds" << std::endl; }
};

// [tasks]
parley::task<> work() {
    const farewell bye{"work"};
    co_await parley::sleep_for(1h); // throws parley::cancelled, and so would any further await
}

parley::task<> save() {
    co_await parley::shield(parley::sleep_for(50ms)); // must finish
    if (auto woke = co_await parley::stop_as_error(parley::sleep_for(1h)); !woke)
        std::cout << "saved; " << woke.error().message() << std::endl; // a further await ends this task
}

parley::task<> cancel_a_scope() {
    auto tidy = []() -> parley::task<> {
        co_await parley::sleep_for(100ms); // a clean-up may await
        std::cout << "tidied up" << std::endl;
    };
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        all.spawn(parley::finally(work(), tidy));
        all.spawn(save());
        co_await parley::sleep_for(10ms);
        all.cancel();
    });
    std::cout << "all have ended" << std::endl;
}
// [/tasks]

// [peer]
parley::task<> work_for(parley::connection<lines> peer) {
    auto asked = co_await peer.recv();
    const farewell bye{"handler"};
    auto sent = co_await peer.push(parley::line_message("I work"));
    co_await parley::sleep_for(1h);
}
// [/peer]

parley::task<> everything() {
    co_await cancel_a_scope();
    // [thread]
    std::stop_source button;
    std::jthread presses([&button] { button.request_stop(); });
    auto stopped = co_await parley::with_stop_token(button.get_token(), parley::sleep_for(1h));
    std::cout << "from a thread: " << stopped.error().message() << std::endl;
    // [/thread]
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), work_for);
    auto where = co_await door.listen();
    co_await parley::compute([&] { ask_and_reset(where.value()); }); // blocking calls, on another thread
    auto closed = co_await door.close();                             // when the last handler has ended
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, everything());
}
