// Memory that runs out above the core: a coroutine frame or anything else that cannot be had is
// std::bad_alloc at the call, or an error of the operation; nothing is half begun, and the others go on.

#include "net.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <new>

#include "core/echo_fixture.h"
#include "core/scarce.h"
#include "coro/coro_test.hpp"

using namespace net;
using parley::connection;
using parley::endpoint;
using parley::line_message;
using parley::runtime;
using parley::task;

namespace {

// Too large for the pool of frames: each one asks operator new.
task<int> large(int value) {
    std::array<char, 8192> place;
    place.fill(static_cast<char>(value));
    co_await parley::yield();
    co_return place[static_cast<std::size_t>(value)];
}
task<> large_and_silent(std::atomic<int> &ran) {
    int value = co_await large(1);
    CHECK(value == 1);
    ++ran;
}

// Makes each allocation of `work` fail, one after the other. It says whether it came to its end.
template <class Work>
task<> each_allocation_fails(const char *what, Work work) {
    INFO(std::string(what));
    for (int n = 1;; n++) {
        CHECK(n < 1000);
        bool refused = false, done = false;
        scarce::arm(n, false);
        try {
            done = co_await work();
        } catch (const std::bad_alloc &) {
            refused = true;
        }
        scarce::plenty();
        if (scarce::failures == 0) {
            CHECK(done);
            CHECK(n > 1); // or nothing was tried
            co_return;
        }
        CHECK(refused != done); // what did not fail is whole
    }
}

// Answers each line with "xxx" by a handler whose frame is large, on the runtime's only loop until the
// runtime stops. What its handlers threw is put into `reports`: "bad_alloc" or "something else".
class greedy_server {
public:
    greedy_server(runtime &rt, inbox<std::string> &reports) : running_(rt, serve(listening_, reports)) {
        where_ = listening_.take();
    }
    const endpoint &where() const { return where_; }

private:
    static task<> answer(connection<lines> peer) {
        std::array<char, 8192> place;
        place.fill('x');
        while (auto line = co_await peer.recv()) {
            auto sent = co_await peer.send(line_message(std::string(place.data(), 3)));
            if (!sent)
                co_return;
        }
    }
    static task<> serve(inbox<endpoint> &listening, inbox<std::string> &reports) {
        parley::serve_options options;
        options.on_listening([&](const endpoint &at) { listening.put(at); });
        options.on_exception([&](const endpoint &, std::exception_ptr why) {
            try {
                std::rethrow_exception(why);
            } catch (const std::bad_alloc &) {
                reports.put("bad_alloc");
            } catch (...) {
                reports.put("something else");
            }
        });
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), answer, std::move(options));
    }

    inbox<endpoint> listening_;
    background running_;
    endpoint where_;
};

} // namespace

TEST_CASE("a frame that cannot be had is bad_alloc at the call, and nothing has begun") {
    no_frames_left check;
    scarce::World world;
    std::atomic<int> ran{0}, reports{0};
    {
        runtime rt(with_loops(1));
        rt.sync_wait([](runtime &here, std::atomic<int> &begun, std::atomic<int> &reported) -> task<> {
            auto refused = [](auto call) {
                scarce::arm(1, false);
                bool is = false;
                try {
                    call();
                } catch (const std::bad_alloc &) {
                    is = true;
                }
                scarce::plenty();
                CHECK(is);
                CHECK(scarce::failures == 1);
            };
            refused([] { auto never = large(1); });
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                refused([&] { s.spawn(large_and_silent(begun)); });
                refused([&] {
                    s.spawn([&begun, space = std::array<char, 8192>()]() -> task<> {
                        begun += space[0] + 1;
                        co_return;
                    });
                });
                co_return;
            });
            auto report = [&reported](std::exception_ptr) { reported++; };
            refused([&] { parley::detach_on(here.loop(0), large_and_silent(begun), report); });
            refused(
                [&] { here.start(large_and_silent(begun), [&reported](parley::outcome<>) { reported++; }); });
            CHECK(begun == 0);
            // And with memory all of it works.
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                s.spawn(large_and_silent(begun));
                co_return;
            });
            CHECK(begun == 1);
        }(rt, ran, reports));
    }
    CHECK(ran == 1);
    CHECK(reports == 0);
}

TEST_CASE("whichever allocation of a scope, a computation, a detached or a started task fails, it says so") {
    no_frames_left check;
    scarce::World world;
    runtime rt(with_loops(1));
    rt.sync_wait([](runtime &here) -> task<> {
        co_await each_allocation_fails("a call", []() -> task<bool> { co_return co_await large(1) == 1; });
        co_await each_allocation_fails("a scope", []() -> task<bool> {
            std::atomic<int> ran{0};
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                for (int i = 0; i < 3; i++)
                    s.spawn(large_and_silent(ran));
                co_return;
            });
            co_return ran == 3;
        });
        co_await each_allocation_fails("a computation", []() -> task<bool> {
            auto computed = co_await parley::compute([] { return std::make_unique<int>(7); });
            co_return *computed == 7;
        });
        co_await each_allocation_fails("a started task", [&here]() -> task<bool> {
            std::atomic<int> ran{0};
            struct state {
                std::atomic<bool> ended{false};
                std::exception_ptr failure;
            };
            auto shared = std::make_shared<state>();
            here.start(large_and_silent(ran), [shared](parley::outcome<> how) {
                shared->failure = how.exception();
                shared->ended = true;
            });
            while (!shared->ended)
                co_await parley::yield();
            if (shared->failure)
                std::rethrow_exception(shared->failure);
            co_return ran == 1;
        });
    }(rt));
}

TEST_CASE(
    "a handler whose frame cannot be had: its connection is closed and reported, the next one is served") {
    no_frames_left check;
    scarce::World world;
    inbox<std::string> reports;
    {
        runtime rt(with_loops(1));
        greedy_server server(rt, reports);
        endpoint where = server.where();
        for (bool further : {false, true}) {
            CAPTURE(further);
            raw_peer before(where);
            before.send("a line\n");
            CHECK(before.recv_line() == "xxx");
            scarce::arm(1, further, 8192); // the frame of the handler
            raw_peer refused(where);
            refused.send("a line\n");
            CHECK(refused.recv_line() == "<end>");
            CHECK(reports.take() == "bad_alloc");
            before.send("a line\n");
            CHECK(before.recv_line() == "xxx");
            scarce::plenty();
            CHECK(scarce::failures == 1);
            raw_peer next(where);
            next.send("a line\n");
            CHECK(next.recv_line() == "xxx");
        }
        rt.stop();
    }
    CHECK(reports.empty());
}

TEST_CASE("whichever allocation behind a server fails, its connection is answered or closed, and the next is "
          "served") {
    no_frames_left check;
    scarce::World world;
    inbox<std::string> reports;
    {
        runtime rt(with_loops(1));
        greedy_server server(rt, reports);
        endpoint where = server.where();
        // The core's own tables grow to what they need: this is about what stands above it.
        {
            std::deque<raw_peer> many;
            for (int i = 0; i < 16; i++) {
                many.emplace_back(where).send("a line\n");
                CHECK(many.back().recv_line() == "xxx");
            }
            fixture::BusyLoop busy(&rt.loop(0).core());
            many.clear();
        }
        for (int n = 1;; n++) {
            CAPTURE(n);
            REQUIRE(n < 100);
            scarce::arm(n, false);
            raw_peer client(where);
            client.send("a line\n");
            std::string answer = client.recv_line();
            client.close();
            scarce::plenty();
            CHECK((answer == "xxx" || answer == "<end>")); // whole, or closed: nothing hangs
            raw_peer next(where);
            next.send("a line\n");
            CHECK(next.recv_line() == "xxx");
            if (scarce::failures == 0)
                break;
        }
        rt.stop();
    }
    while (!reports.empty())
        CHECK(reports.take() == "bad_alloc");
}

TEST_CASE("waiting for a mutex, an event, a semaphore, a condition or a rate_limiter allocates nothing") {
    no_frames_left check;
    scarce::World world;
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        parley::mutex m;
        parley::shared_mutex sm;
        parley::event go(parley::reset::automatic), there(parley::reset::automatic);
        parley::semaphore places(0);
        parley::condition c;
        parley::rate_limiter limit(1e6, 1);
        bool over = false, in_time = true;
        // The partner gives, or notifies, whenever it is its turn, and never allocates itself.
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                while (!over) {
                    auto held = co_await m.lock();
                    auto writing = co_await sm.lock();
                    there.set();
                    co_await go.wait();
                    held.unlock();
                    writing.unlock();
                    places.release(2);
                    co_await parley::yield();
                    co_await parley::yield();
                    c.notify_one();
                    co_await parley::yield();
                    c.notify_one();
                    co_await go.wait();
                }
            });
            for (int round = 0; round < 20; round++) {
                co_await there.wait();
                if (round == 2) // warm
                    scarce::arm(1, true);
                over = round == 19;
                go.set();
                {
                    auto a = co_await m.lock();
                    auto b = co_await sm.lock_shared_for(1h);
                    auto p = co_await places.acquire();
                    p.forget();
                    auto q = co_await places.acquire_for(1h);
                    q->forget();
                    co_await c.wait(a);
                    auto notified = co_await c.wait_for(a, 1h);
                    in_time = in_time && notified;
                }
                co_await limit.acquire();
                auto token = co_await limit.acquire_for(1h);
                in_time = in_time && token;
                go.set();
            }
            scarce::plenty();
        });
        CHECK(in_time);
        CHECK(scarce::failures == 0);
    }());
}
