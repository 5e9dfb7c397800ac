// Classic mistakes that compile. Each works all the same or ends in a clear error, and leaves nothing
// behind: no frame, and under ASan no report. Time is a simulated world's, but for what needs a runtime to
// destroy.

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>
#include <parley/sim/world.hpp>

#include "coro/coro_test.hpp"
#include "coro/in_world.hpp"

using namespace std::chrono_literals;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::scope;
using parley::task;
using parley::sim::world;

namespace {

struct lines {
    using request = line_message;
    using response = line_message;
};

task<int> load(int id) {
    co_await parley::yield();
    co_return id;
}

task<> for_ever() {
    for (;;)
        co_await parley::sleep_for(1ms);
}

parley::runtime_options small() {
    parley::runtime_options options;
    options.loops = 2;
    options.executor_threads = 1;
    return options;
}

using handler = std::function<task<>(connection<lines>)>;

task<> serve_first(parley::acceptor<lines> &door, const handler &handle) {
    auto peer = co_await door.accept();
    if (peer)
        co_await handle(std::move(*peer));
}

task<std::string> ask(endpoint where) {
    parley::client<lines> client(std::move(where));
    auto answer = co_await parley::with_timeout(1s, client.request(line_message("hello")));
    if (answer)
        co_return std::string(answer->text());
    co_return answer.error().message();
}

// What a client that says hello to this handler hears, or the error that it gets.
task<> exchange(const handler &handle, std::string &heard) {
    parley::acceptor<lines> door(endpoint("127.0.0.1", 0));
    auto where = co_await door.listen();
    auto body = [&](scope &s) -> task<> {
        s.spawn(serve_first(door, handle));
        heard = co_await ask(*where);
        s.cancel();
    };
    co_await parley::with_scope(body);
}

std::string heard_from(const handler &handle) {
    std::string heard;
    in_world([&](world &) { return exchange(handle, heard); });
    return heard;
}

task<> receive(connection<lines> &peer, std::vector<std::string> &log) {
    try {
        auto line = co_await peer.recv();
        log.push_back(line ? std::string(line->text()) : line.error().message());
    } catch (const parley::cancelled &) {
        log.push_back("cancelled");
        throw;
    }
}

} // namespace

TEST_CASE("a lambda coroutine that captures, given to spawn as a temporary") {
    no_frames_left check;
    std::string heard;
    in_world([&](world &) -> task<> {
        return [](std::string &into) -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                std::string text(40, 'x'); // ends with the body, before the child goes on
                s.spawn([&into, text]() -> task<> {
                    co_await parley::sleep_for(1s);
                    into = text;
                });
                co_return;
            });
        }(heard);
    });
    CHECK(heard == std::string(40, 'x'));
}

TEST_CASE("a lambda coroutine that captures, given to start and detach_on as a temporary") {
    no_frames_left check;
    auto kept = std::make_shared<std::atomic<int>>(0);
    {
        parley::runtime rt(small());
        rt.start(
            [kept]() -> task<> {
                co_await parley::yield();
                *kept += 1;
            },
            [](const parley::outcome<> &) {});
        parley::detach_on(
            rt.loop(1),
            [kept]() -> task<> {
                co_await parley::yield();
                *kept += 10;
            },
            [](const std::exception_ptr &) {});
        while (*kept != 11)
            rt.sync_wait(load(0));
    }
    CHECK(kept.use_count() == 1);
}

TEST_CASE("a temporary function given to a combinator") {
    no_frames_left check;
    int sum = 0;
    in_world([&](world &) -> task<> {
        return [](int &into) -> task<> {
            int three = 3;
            auto [a, b] = co_await parley::when_all(
                [&]() -> task<int> {
                    co_await parley::sleep_for(1s);
                    co_return three;
                },
                load(4));
            into = a + b;
        }(sum);
    });
    CHECK(sum == 7);
}

TEST_CASE("a task that was moved away, awaited, spawned and joined: invalid_argument") {
    no_frames_left check;
    in_world([](world &) -> task<> {
        auto gone = load(1);
        auto kept = std::move(gone);
        CHECK(co_await std::move(kept) == 1);
        bool refused = false;
        try {
            co_await std::move(gone);
        } catch (const std::invalid_argument &) {
            refused = true;
        }
        CHECK(refused);
        refused = false;
        try {
            co_await parley::when_all(task<int>(), load(2));
        } catch (const std::invalid_argument &) {
            refused = true;
        }
        CHECK(refused);
        refused = false;
        try {
            co_await parley::with_scope([](scope &s) -> task<> {
                s.spawn(task<>());
                co_return;
            });
        } catch (const std::invalid_argument &) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("a task that is never awaited: its arguments are destroyed with it, and its body never ran") {
    no_frames_left check;
    auto argument = std::make_shared<int>(1);
    bool ran = false;
    {
        auto idle = [](std::shared_ptr<int>, bool &flag) -> task<> {
            flag = true;
            co_return;
        }(argument, ran);
        CHECK(argument.use_count() == 2);
    }
    CHECK(argument.use_count() == 1);
    CHECK(!ran);
}

TEST_CASE("when_any of no tasks: invalid_argument instead of a wait for ever") {
    in_world([](world &) -> task<> {
        bool refused = false;
        try {
            auto none = co_await parley::when_any(std::vector<task<int>>());
            CHECK(none.value == 0);
        } catch (const std::invalid_argument &) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("a loop without an end and without a look at its results: ends when its task is cancelled") {
    no_frames_left check;
    auto took = in_world([](world &) -> task<> {
        auto r = co_await parley::with_timeout(1s, for_ever());
        CHECK(!r);
        CHECK(r.error() == errc::timed_out);
    });
    CHECK(about(took, 1s));
}

TEST_CASE("a catch (...) that swallows the cancel: the next await ends the task all the same") {
    no_frames_left check;
    int rounds = 0;
    auto took = in_world([&](world &) -> task<> {
        return [](int &n) -> task<> {
            auto stubborn = [&]() -> task<> {
                for (; n < 2; ++n) {
                    try {
                        co_await parley::sleep_for(1h);
                    } catch (...) { // takes the cancel for an error of the sleep
                    }
                }
                co_await parley::sleep_for(1h);
            };
            auto r = co_await parley::with_timeout(1s, stubborn());
            CHECK(!r);
        }(rounds);
    });
    CHECK(rounds == 2);
    CHECK(about(took, 1s));
}

TEST_CASE("sync_wait on a loop: EDEADLK, not a deadlock") {
    no_frames_left check;
    parley::runtime rt(small());
    int code = rt.sync_wait([](parley::runtime &mine) -> task<int> {
        int seen = 0;
        try {
            mine.sync_wait(load(1));
        } catch (const std::system_error &e) {
            seen = e.code().value();
        }
        co_return seen;
    }(rt));
    CHECK(code == EDEADLK);
}

TEST_CASE("a handle dropped while another task is in recv: that task stops") {
    no_frames_left check;
    std::vector<std::string> log;
    heard_from([&](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        CHECK(line);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(receive(peer, log));
            co_await parley::sleep_for(1ms);
            peer = connection<lines>();
        });
    });
    CHECK(log == std::vector<std::string>{"cancelled"});
}

TEST_CASE("two tasks in recv of one connection: the second is device_or_resource_busy") {
    no_frames_left check;
    std::vector<std::string> log;
    heard_from([&](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        CHECK(line);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(receive(peer, log));
            co_await parley::sleep_for(1ms);
            auto second = co_await peer.recv();
            CHECK(!second);
            CHECK(second.error() == std::errc::device_or_resource_busy);
            s.cancel();
        });
    });
    CHECK(log == std::vector<std::string>{"cancelled"});
}

TEST_CASE("an answer to nobody: no_turn") {
    no_frames_left check;
    std::string heard = heard_from([](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        CHECK(sent);
        auto again = co_await peer.send(*line);
        CHECK(!again);
        CHECK(again.error() == errc::no_turn);
    });
    CHECK(heard == "hello");
}

TEST_CASE("a message used after it was sent: borrowed it is unchanged, given away it can be assigned") {
    no_frames_left check;
    std::string heard = heard_from([](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        CHECK(sent);
        CHECK(line->text() == "hello");
        auto pushed = co_await peer.push(std::move(*line));
        CHECK(pushed);
        *line = line_message("new");
        CHECK(line->text() == "new");
    });
    CHECK(heard == "hello");
}

TEST_CASE("a handler that returns and owes an answer: its client gets an error at once") {
    no_frames_left check;
    std::string heard;
    auto took = in_world([&](world &) {
        static const handler returns = [](connection<lines> peer) -> task<> {
            auto line = co_await peer.recv();
            CHECK(line);
        };
        return exchange(returns, heard);
    });
    CHECK(heard != "hello");
    CHECK(heard != make_error_code(errc::timed_out).message());
    CHECK(took < 1s);
}

TEST_CASE("a handler that never answers: its client's limit ends the wait, its scope ends the handler") {
    no_frames_left check;
    std::string heard = heard_from([](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        CHECK(line);
        co_await parley::sleep_for(1h);
    });
    CHECK(heard == make_error_code(errc::timed_out).message());
}

TEST_CASE("a handler that throws: the exception reaches the scope, the client is cancelled") {
    no_frames_left check;
    in_world([](world &) -> task<> {
        const handler throws = [](connection<lines> peer) -> task<> {
            auto line = co_await peer.recv();
            throw std::runtime_error("a bug");
        };
        std::string heard = "nothing", said;
        try {
            co_await exchange(throws, heard);
        } catch (const std::runtime_error &e) {
            said = e.what();
        }
        CHECK(said == "a bug");
        CHECK(heard == "nothing");
    });
}

TEST_CASE("a callback called inside the initiating call, twice, and never") {
    no_frames_left check;
    in_world([](world &) -> task<> {
        int inside = co_await parley::from_callback<int>([](auto &done) { done(1); });
        CHECK(inside == 1);
        int twice = co_await parley::from_callback<int>([](auto &done) {
            auto f = done.callback();
            auto copy = f;
            f(2);
            copy(3);
        });
        CHECK(twice == 2);
        bool dropped = false;
        try {
            co_await parley::from_callback<int>([](auto &done) { auto unused = done.callback(); });
        } catch (const parley::exception &e) {
            dropped = e.error() == errc::dropped;
        }
        CHECK(dropped);
    });
}

TEST_CASE("a limit of time around what cannot be stopped: it is awaited, and then says timed_out") {
    no_frames_left check;
    auto took = in_world([](world &) -> task<> {
        co_await parley::with_scope([](scope &s) -> task<> {
            parley::callback_done<int> *later = nullptr;
            s.spawn([&later]() -> task<> {
                co_await parley::sleep_for(5s);
                (*later)(7);
            });
            auto r = co_await parley::with_timeout(
                1s, parley::from_callback<int>([&](auto &done) { later = &done; }));
            CHECK(!r);
            CHECK(r.error() == errc::timed_out);
        });
    });
    CHECK(about(took, 5s));
}

TEST_CASE("an exception of a detached task: goes to the function that was given for it") {
    no_frames_left check;
    std::string said;
    in_world([&](world &) -> task<> {
        return [](std::string &into) -> task<> {
            auto throws = []() -> task<> {
                co_await parley::yield();
                throw std::runtime_error("unseen");
            };
            parley::detach_on(*parley::loop::current(), throws(), [&into](const std::exception_ptr &failure) {
                try {
                    std::rethrow_exception(failure);
                } catch (const std::exception &e) {
                    into = e.what();
                }
            });
            co_await parley::sleep_for(1s);
        }(said);
    });
    CHECK(said == "unseen");
}

TEST_CASE("a runtime destroyed while tasks sleep, compute and wait for connections: all end, none is left") {
    no_frames_left check;
    std::atomic<int> ended{0}, computing{0};
    {
        parley::runtime rt(small());
        auto count = [&](const parley::outcome<> &how) { ended += how.stopped() ? 1 : 100; };
        rt.start([]() -> task<> { co_await parley::sleep_for(1h); }(), count);
        rt.start(
            [](std::atomic<int> &n) -> task<> {
                co_await parley::compute([&] { ++n; });
                co_await for_ever();
            }(computing),
            count);
        rt.start(
            []() -> task<> {
                parley::acceptor<lines> door(endpoint("127.0.0.1", 0));
                auto nobody = co_await door.accept();
                CHECK(!nobody);
                co_await for_ever();
            }(),
            count);
        while (computing == 0)
            rt.sync_wait(load(0));
    }
    CHECK(ended == 3);
}

TEST_CASE("a loop that waits for a flag with awaits that are always ready: others run") {
    no_frames_left check;
    in_world([](world &) -> task<> {
        co_await parley::with_scope([](scope &s) -> task<> {
            bool flag = false;
            s.spawn([&flag]() -> task<> {
                flag = true;
                co_return;
            });
            auto ready = []() -> task<> { co_return; };
            while (!flag)
                co_await ready();
        });
    });
}

namespace {

task<int> depth(int n) {
    if (n == 0)
        co_return 0;
    co_return 1 + co_await depth(n - 1);
}

task<> add_to(int &sum, std::chrono::seconds after) {
    co_await parley::sleep_for(after);
    ++sum;
}

task<> spawn_later(scope &s, int &sum) {
    co_await parley::sleep_for(1s);
    s.spawn(add_to(sum, 1s));
}

} // namespace

TEST_CASE("recursion 100,000 deep: the stack does not grow") {
    no_frames_left check;
    CHECK(parley::run(depth(100'000)) == 100'000);
}

TEST_CASE(
    "children that refer to locals of the one who spawns them, even from children: the scope ends first") {
    no_frames_left check;
    auto took = in_world([](world &) -> task<> {
        int sum = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(add_to(sum, 1s));
            s.spawn(spawn_later(s, sum)); // spawns when the body has long ended
            co_return;
        });
        CHECK(sum == 2);
    });
    CHECK(about(took, 2s));
}

TEST_CASE("an acceptor used on another loop than its own: operation_not_permitted") {
    no_frames_left check;
    parley::runtime rt(small());
    bool refused = rt.sync_wait(rt.loop(0), [](parley::runtime &mine) -> task<bool> {
        parley::acceptor<lines> door(endpoint("127.0.0.1", 0));
        auto where = co_await door.listen();
        CHECK(where);
        co_await parley::resume_on(mine.loop(1));
        auto peer = co_await door.accept();
        bool elsewhere = !peer && peer.error() == std::errc::operation_not_permitted;
        co_await parley::resume_on(mine.loop(0));
        co_return elsewhere;
    }(rt));
    CHECK(refused);
}
