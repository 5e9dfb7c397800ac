// Every operation of parley awaited by a coroutine of somebody else's, on a loop.

#include "net.hpp"

#include <array>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <exception>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include <unistd.h>

using namespace net;
using parley::line_message;
using parley::task;

namespace {

// Somebody else's coroutine: begins at once and destroys itself.
struct guest {
    struct promise_type {
        guest get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};

// Runs the body, which sets its argument at its end, on the loop of a runtime.
template <class F>
void as_guest(F body) {
    parley::run(with_loops(2), [](F &b) -> task<> {
        bool over = false;
        b(over);
        while (!over)
            co_await parley::yield();
    }(body));
}

} // namespace

TEST_CASE("a guest awaits time, other threads and descriptors") {
    as_guest([](bool &over) -> guest {
        co_await parley::sleep_for(1ms);
        co_await parley::sleep_until(std::chrono::steady_clock::now());
        co_await parley::yield();
        int computed = co_await parley::compute([] { return 42; });
        CHECK(computed == 42);
        auto begin = [](auto &done) { done(7); };
        int called = co_await parley::from_callback<int>(begin);
        CHECK(called == 7);

        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        auto writable = co_await parley::writable(ends[1]);
        CHECK(writable);
        REQUIRE(::write(ends[1], "x", 1) == 1);
        auto readable = co_await parley::readable(ends[0]);
        CHECK(readable);
        ::close(ends[0]);
        ::close(ends[1]);

        auto found = co_await parley::resolve(parley::endpoint("localhost", 80));
        CHECK(found);

        parley::signal_set signals(SIGUSR1);
        ::kill(::getpid(), SIGUSR1);
        int number = co_await signals.wait();
        CHECK(number == SIGUSR1);
        over = true;
    });
}

TEST_CASE("a guest awaits what synchronises") {
    as_guest([](bool &over) -> guest {
        parley::mutex m;
        {
            auto held = co_await m.lock();
        }
        parley::shared_mutex sm;
        {
            auto reading = co_await sm.lock_shared();
        }
        {
            auto writing = co_await sm.lock();
        }
        parley::semaphore s(1);
        {
            auto permit = co_await s.acquire();
        }
        parley::event e;
        e.set();
        co_await e.wait();
        parley::latch l(1);
        l.count_down();
        co_await l.wait();
        parley::condition changed;
        {
            auto held = co_await m.lock();
            auto waited = co_await changed.wait_for(held, 1ms);
            static_cast<void>(waited);
        }
        auto c = parley::channel<int>::bounded(1);
        auto pushed = co_await c.push(3);
        CHECK(pushed);
        auto popped = co_await c.pop();
        CHECK(popped.value() == 3);
        parley::rate_limiter r(1000, 10);
        co_await r.acquire();
        over = true;
    });
}

TEST_CASE("a guest awaits tasks and what combines them") {
    as_guest([](bool &over) -> guest {
        auto make = [](int n) -> task<int> {
            co_await parley::yield();
            co_return n;
        };
        int one = co_await make(1);
        CHECK(one == 1);
        auto all = co_await parley::when_all(make(1), make(2));
        CHECK(std::get<1>(all) == 2);
        auto any = co_await parley::when_any(make(1), parley::sleep_for(1h));
        CHECK(any.index() == 0);
        auto limited = co_await parley::with_timeout(1h, make(3));
        CHECK(limited.value() == 3);
        auto late = co_await parley::with_timeout(1ms, parley::sleep_for(1h));
        CHECK(late.error() == parley::errc::timed_out);
        auto shielded = co_await parley::shield(make(4));
        CHECK(shielded == 4);
        auto stopped = co_await parley::stop_as_error(make(5));
        CHECK(stopped.value() == 5);
        std::stop_source source;
        source.request_stop();
        auto told = co_await parley::with_stop_token(source.get_token(), make(6));
        CHECK(told.error() == parley::errc::stopping);
        int sum = 0;
        auto body = [&](parley::scope &s) -> task<> {
            for (int i = 1; i <= 3; ++i) {
                s.spawn([](int n, int &out) -> task<> {
                    co_await parley::yield();
                    out += n;
                }(i, sum));
            }
            co_return;
        };
        co_await parley::with_scope(body);
        CHECK(sum == 6);
        const std::vector<int> values{1, 2, 3};
        auto each = [&sum](int n) -> task<> {
            co_await parley::yield();
            sum += n;
        };
        co_await parley::for_each_concurrently(values, 2, each);
        CHECK(sum == 12);
        auto call = [&sum] { parley::await(parley::yield()), ++sum; };
        co_await parley::in_fiber(call);
        CHECK(sum == 13);
        over = true;
    });
}

TEST_CASE("a guest serves and asks") {
    as_guest([](bool &over) -> guest {
        parley::server<lines> door(parley::endpoint("127.0.0.1", 0), echo<lines>);
        auto where = co_await door.listen();
        {
            parley::client<lines> client(*where);
            auto answer = co_await client.request(line_message("hello"));
            CHECK(answer.value().text() == "hello");
        }
        auto drained = co_await door.drain(1h);
        CHECK(drained.value().cancelled == 0);

        parley::acceptor<lines> port(parley::endpoint("127.0.0.1", 0));
        auto local = co_await port.listen();
        raw_peer client(*local);
        auto peer = co_await port.accept();
        REQUIRE(peer);
        client.send("first\n");
        auto line = co_await peer->recv();
        CHECK(line.value().text() == "first");
        auto pushed = co_await peer->push(line_message("news"));
        CHECK(pushed);
        auto sent = co_await peer->send(*line);
        CHECK(sent);
        CHECK(client.recv_line() == "news");
        CHECK(client.recv_line() == "first");
        co_await peer->close();
        co_await port.close();
        over = true;
    });
}

TEST_CASE("a guest reads and writes files") {
    temp_dir dir;
    const std::string path = dir / "data";
    as_guest([&path](bool &over) -> guest {
        auto opened = parley::file::open(path, parley::file_mode::create);
        REQUIRE(opened);
        const std::string text = "some bytes";
        auto written = co_await opened->write_at(0, text);
        CHECK(written.value() == text.size());
        auto synced = co_await opened->sync();
        CHECK(synced);
        std::array<std::byte, 32> back{};
        const std::span<std::byte> into(back);
        auto got = co_await opened->read_at(0, into);
        CHECK(got.value() == text.size());
        over = true;
    });
}

TEST_CASE("a guest comes to a loop from a thread that is none, and goes on to another") {
    inbox<std::size_t> indices;
    parley::runtime rt(with_loops(2));
    auto travel = [&]() -> guest {
        co_await parley::resume_on(rt.loop(1));
        indices.put(parley::this_loop().index());
        co_await parley::yield(); // there as well
        indices.put(parley::this_loop().index());
        co_await parley::resume_on(rt.loop(0));
        indices.put(parley::this_loop().index());
    };
    travel();
    CHECK(indices.take() == 1);
    CHECK(indices.take() == 1);
    CHECK(indices.take() == 0);
}

TEST_CASE("what a guest awaits in a stopped runtime throws") {
    inbox<bool> told;
    parley::runtime rt(with_loops(1));
    auto sleeper = [&]() -> guest {
        co_await parley::resume_on(rt.loop(0));
        try {
            told.put(false);
            co_await parley::sleep_for(1h);
        } catch (const parley::exception &e) {
            told.put(e.code() == parley::errc::stopping);
        }
    };
    sleeper();
    told.take();
    rt.stop();
    CHECK(told.take());
}
