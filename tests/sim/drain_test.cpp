// A server that drains: who may finish, who is told to stop and when, and what the report says of them.

#include <doctest/doctest.h>

#include <chrono>
#include <deque>
#include <optional>
#include <sstream>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>
#include <parley/sim/world.hpp>

#include "../coro/in_world.hpp"
#include "sockets.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::errc;
using parley::line_message;
using parley::task;

namespace {

struct lines {
    using request = line_message;
    using response = line_message;
};
using client = parley::client<lines>;
using server = parley::server<lines>;

// A number is answered after as many milliseconds; "shield N" as well, come what may.
task<> answer_later(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv()) {
        const std::string text(asked->text());
        if (text.starts_with("shield "))
            co_await parley::shield(parley::sleep_for(std::chrono::milliseconds(std::stoi(text.substr(7)))));
        else
            co_await parley::sleep_for(std::chrono::milliseconds(std::stoi(text)));
        if (auto sent = co_await peer.send(*asked); !sent)
            co_return;
    }
}

// A server and connections to it, each with a client of its own.
class ground {
public:
    explicit ground(parley::scope &all) : all_(all) {}

    task<> open() {
        auto local = co_await door.listen();
        where = local.value();
        all_.spawn(serve());
        co_await parley::yield();
    }
    task<> ask(std::string what) {
        client &mine = clients_.emplace_back(where);
        auto answer = co_await mine.request(line_message(what));
        answer ? ++answered : ++unanswered;
    }
    // Returns when it has been asked; the answer is counted when it comes.
    task<> begin(std::string what) {
        all_.spawn(ask(std::move(what)));
        co_await parley::sleep_for(1us);
    }

    server door{parley::endpoint("127.0.0.1", 0), answer_later};
    parley::endpoint where;
    int answered = 0;
    int unanswered = 0;
    bool served = false;

private:
    task<> serve() {
        auto how = co_await door.serve();
        served = bool(how);
    }

    parley::scope &all_;
    std::deque<client> clients_;
};

// Runs `body(ground, world)` with an open server and returns when all of it has ended.
template <class F>
void with_server(F body, std::size_t loops = 1) {
    in_world(
        [&](sim::world &world) -> task<> {
            std::optional<ground> here; // its clients are used to the end of the scope
            co_await parley::with_scope([&](parley::scope &all) -> task<> {
                here.emplace(all);
                co_await here->open();
                co_await body(*here, world);
            });
        },
        1, loops);
}

void check_sums(const parley::drain_report &report, std::size_t connections, std::size_t idle,
                std::size_t cancelled) {
    CAPTURE(report.connections);
    CAPTURE(report.idle);
    CAPTURE(report.cancelled);
    CHECK(report.connections == connections);
    CHECK(report.idle == idle);
    CHECK(report.cancelled == cancelled);
    CHECK(report.finished == connections - cancelled);
    CHECK(report.overstayed.size() == cancelled);
}

} // namespace

TEST_CASE(
    "a thousand connections, idle, silent, slow and stuck: drained at the limit, and the counts add up") {
    for (const std::size_t loops : {std::size_t{1}, std::size_t{3}}) {
        with_server(
            [](ground &g, sim::world &world) -> task<> {
                std::deque<int> silent;
                for (int i = 0; i < 250; i++) {
                    co_await g.ask("0"); // idle from now on
                    silent.push_back(wire::connect_to("127.0.0.1", g.where.port()));
                    co_await g.begin("2000");
                    co_await g.begin("3600000");
                }
                co_await parley::sleep_for(1s); // all have been accepted
                const auto start = world.now();
                auto report = co_await g.door.drain(5s);
                const auto took = world.now() - start;
                CHECK(took >= 5s);
                CHECK(took < 5s + 100ms);
                REQUIRE(report);
                check_sums(*report, 1000, 500, 250);
                co_await parley::sleep_for(1ms); // the clients hear of it
                CHECK(g.answered == 500);
                CHECK(g.unanswered == 250);
                CHECK(g.served);
                for (const int fd : silent)
                    parley::sys::close(fd);
            },
            loops);
    }
}

TEST_CASE("a drain is over with its last handler, before the limit") {
    with_server([](ground &g, sim::world &world) -> task<> {
        co_await g.begin("300");
        const auto start = world.now();
        auto report = co_await g.door.drain(1h);
        CHECK(world.now() - start < 301ms);
        check_sums(report.value(), 1, 0, 0);
        auto again = co_await g.door.drain(1h); // it is over
        check_sums(again.value(), 1, 0, 0);
    });
}

TEST_CASE("who overstays is named with its peer, what it waits for and where") {
    with_server([](ground &g, sim::world &) -> task<> {
        co_await g.begin("3600000");
        auto report = co_await g.door.drain(1s);
        check_sums(report.value(), 1, 0, 1);
        const std::string &line = report->overstayed.at(0);
        CAPTURE(line);
        CHECK(line.starts_with("handler of 127.0.0.1:"));
        CHECK(line.find(": sleep") != std::string::npos);
        if constexpr (PARLEY_SIGHT)
            CHECK(line.find("drain_test.cpp:") != std::string::npos);
        std::ostringstream text;
        text << *report;
        CHECK(text.str() == "drained: 1 connection, 0 idle, 0 finished, 1 cancelled\n  " + line);
    });
}

TEST_CASE("a drain without time tells every handler to stop at once") {
    for (const std::chrono::nanoseconds limit : {0ns, -1ns, std::chrono::nanoseconds::min()}) {
        with_server([limit](ground &g, sim::world &world) -> task<> {
            co_await g.begin("3600000");
            const auto start = world.now();
            auto report = co_await g.door.drain(limit);
            CHECK(world.now() - start < 1ms);
            check_sums(report.value(), 1, 0, 1);
        });
    }
}

TEST_CASE("a drain with all the time there is waits for the last answer") {
    with_server([](ground &g, sim::world &) -> task<> {
        co_await g.begin("3600000");
        auto report = co_await g.door.drain(std::chrono::nanoseconds::max());
        check_sums(report.value(), 1, 0, 0);
    });
}

TEST_CASE("draining what closes sets a limit, and a later drain can only bring it forward") {
    with_server([](ground &g, sim::world &world) -> task<> {
        co_await g.begin("3600000");
        const auto start = world.now();
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](server &d) -> task<> {
                auto closed = co_await d.close();
                CHECK(closed);
            }(g.door));
            s.spawn([](server &d) -> task<> {
                auto report = co_await d.drain(10s);
                check_sums(report.value(), 1, 0, 1);
            }(g.door));
            co_await parley::sleep_for(1s);
            auto later = co_await parley::with_timeout(1s, g.door.drain(1h));
            CHECK(later.error() == errc::timed_out);
            auto report = co_await g.door.drain(3s);
            CHECK(about(world.now() - start, 5s));
            check_sums(report.value(), 1, 0, 1);
        });
        CHECK(about(world.now() - start, 5s));
    });
}

TEST_CASE("nobody waits for the drain any more, and its limit holds all the same") {
    with_server([](ground &g, sim::world &world) -> task<> {
        co_await g.begin("3600000");
        const auto start = world.now();
        auto late = co_await parley::with_timeout(1s, g.door.drain(3s));
        CHECK(late.error() == errc::timed_out);
        CHECK(late.error().stage() == parley::stage::shutdown);
        auto closed = co_await g.door.close();
        CHECK(closed);
        CHECK(about(world.now() - start, 3s));
    });
}

TEST_CASE("a handler in a shield puts the end of the drain off, without its connection") {
    with_server([](ground &g, sim::world &world) -> task<> {
        const auto start = world.now();
        std::optional<std::chrono::nanoseconds> lost;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await g.ask("shield 4000");
                lost = world.now() - start;
            });
            co_await parley::sleep_for(1us);
            auto report = co_await g.door.drain(1s);
            CHECK(about(world.now() - start, 4s));
            check_sums(report.value(), 1, 0, 1);
        });
        REQUIRE(lost);
        CHECK(about(*lost, 1s));
        CHECK(g.unanswered == 1);
    });
}

TEST_CASE("cancelling serve() while it drains tells the handlers to stop before the limit") {
    in_world([](sim::world &world) -> task<> {
        server door(parley::endpoint("127.0.0.1", 0), answer_later);
        auto local = co_await door.listen();
        client asking(*local);
        const auto start = world.now();
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> { auto answer = co_await asking.request(line_message("3600000")); });
            all.spawn([&]() -> task<> {
                auto served = co_await parley::with_timeout(2s, door.serve());
                CHECK(served.error() == errc::timed_out);
            });
            co_await parley::sleep_for(1s);
            auto report = co_await door.drain(1h);
            check_sums(report.value(), 1, 0, 1);
            CHECK(about(world.now() - start, 2s));
        });
    });
}

TEST_CASE("a drain that begins when the handlers have been told to stop counts them as such") {
    in_world([](sim::world &) -> task<> {
        server door(parley::endpoint("127.0.0.1", 0), answer_later);
        auto local = co_await door.listen();
        client asking(*local);
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> {
                auto answer = co_await asking.request(line_message("shield 2000"));
                CHECK_FALSE(answer);
            });
            co_await parley::sleep_for(1ms);
            all.spawn([&]() -> task<> {
                auto served = co_await parley::with_timeout(1s, door.serve());
                CHECK(served.error() == errc::timed_out);
            });
            co_await parley::sleep_for(1500ms);
            auto report = co_await door.drain(1h);
            check_sums(report.value(), 1, 0, 1);
        });
    });
}

TEST_CASE("a server that never listened, or is none any more, has nothing to drain") {
    in_world([](sim::world &) -> task<> {
        server door(parley::endpoint("127.0.0.1", 0), answer_later);
        auto report = co_await door.drain(1h);
        check_sums(report.value(), 0, 0, 0);
        server other = std::move(door);
        auto none = co_await door.drain(1h);
        CHECK(none.error() == errc::closed);
    });
}

TEST_CASE("the runtime ends while a server drains") {
    sim::world world{1};
    world.run([&] {
        parley::runtime_options options;
        options.loops = 2;
        parley::runtime rt(options);
        server *draining = nullptr;
        bool left = false;
        rt.start(
            [](server *&out, bool &gone) -> task<> {
                server door(parley::endpoint("127.0.0.1", 0), answer_later);
                auto local = co_await door.listen();
                client asking(*local);
                out = &door;
                co_await parley::with_scope([&](parley::scope &all) -> task<> {
                    all.spawn(
                        [&]() -> task<> { auto answer = co_await asking.request(line_message("3600000")); });
                    co_await parley::sleep_for(1ms);
                    struct note {
                        bool &set;
                        ~note() { set = true; }
                    } const at_end{gone};
                    auto report = co_await door.drain(1h);
                    CHECK(false); // not reached
                });
            }(draining, left),
            [](parley::outcome<void>) {});
        world.sleep(1s);
        CHECK(draining != nullptr);
        rt.stop();
        world.sleep(1s);
        CHECK(left);
    });
}
