#include <parley/select.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <parley/parley.hpp>
#include <parley/sim/search.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::channel;
using parley::errc;
using parley::runtime;
using parley::scope;
using parley::task;

namespace {

// What several threads see of one exchange: each value once, and those of one producer in their order.
struct ledger {
    std::vector<std::atomic<int>> seen;
    std::atomic<const char *> fault{nullptr};
    explicit ledger(std::size_t n) : seen(n) {}
    void note(std::vector<int> &last, int value, int per_producer) {
        if (seen[static_cast<std::size_t>(value)].fetch_add(1) != 0)
            fault = "a value came twice";
        int &before = last[static_cast<std::size_t>(value / per_producer)];
        if (before >= value)
            fault = "out of order";
        before = value;
    }
    const char *verdict() const {
        if (fault)
            return fault;
        for (auto &n : seen)
            if (n != 1)
                return "a value was lost";
        return nullptr;
    }
};

// Producers push to one of two channels as select will have it, consumers select from both; some of them are
// told to stop again and again.
const char *exchange(std::size_t on, int producers, int each, std::size_t width) {
    channel<int> a(width), b(width);
    ledger book(static_cast<std::size_t>(producers * each));
    {
        runtime rt(on_loops(on));
        std::atomic<int> sending{producers};
        int running = producers + 4;
        parley::sync::mutex waits;
        parley::sync::condition_variable ended;
        auto over = [&](parley::outcome<>) {
            parley::sync::lock_guard<parley::sync::mutex> hold(waits);
            if (--running == 0)
                ended.notify_one();
        };
        for (int p = 0; p < producers; ++p)
            rt.start(
                rt.loop(static_cast<std::size_t>(p) % on),
                [&, p]() -> task<> {
                    int cancels = each; // no more: a task that only tries again keeps its loop busy
                    for (int i = p * each; i < (p + 1) * each; ++i) {
                        int value = i;
                        bool sent = false;
                        while (!sent)
                            co_await parley::with_scope([&](scope &s) -> task<> {
                                s.spawn([&]() -> task<> {
                                    if (i % 2 == 0) {
                                        auto pushed = co_await a.push(std::move(value));
                                        sent = bool(pushed);
                                    } else {
                                        auto which =
                                            co_await parley::select(a.push(std::move(value)), b.push(value));
                                        sent = true;
                                    }
                                });
                                co_await yields(static_cast<unsigned>(i % 3 + 1));
                                if (--cancels > 0)
                                    s.cancel();
                            });
                    }
                    if (--sending == 0) {
                        a.close();
                        b.close();
                    }
                },
                over);
        for (int k = 0; k < 4; ++k)
            rt.start(
                rt.loop(static_cast<std::size_t>(k + 1) % on),
                [&]() -> task<> {
                    int cancels = producers * each / 4;
                    bool open_a = true, open_b = true;
                    while (open_a || open_b) {
                        int got = -1;
                        co_await parley::with_scope([&](scope &s) -> task<> {
                            s.spawn([&]() -> task<> {
                                auto which = co_await parley::select(a.pop(), b.pop());
                                if (which.index() == 0) {
                                    if (auto &v = std::get<0>(which))
                                        got = *v;
                                    else
                                        open_a = false;
                                } else {
                                    if (auto &v = std::get<1>(which))
                                        got = *v;
                                    else
                                        open_b = false;
                                }
                            });
                            co_await yields(2);
                            if (--cancels > 0)
                                s.cancel();
                        });
                        if (got >= 0 && book.seen[static_cast<std::size_t>(got)].fetch_add(1) != 0)
                            book.fault = "a value came twice";
                    }
                },
                over);
        parley::sync::unique_lock<parley::sync::mutex> hold(waits);
        ended.wait(hold, [&] { return running == 0; });
    }
    return book.verdict();
}

} // namespace

TEST_CASE("select does one thing that can be done, and leaves the others alone") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto a = channel<int>::bounded(1);
        auto b = channel<std::unique_ptr<int>>::bounded(1);
        CHECK(!parley::try_select(a.pop(), b.pop()));
        auto value = std::make_unique<int>(4);
        auto first = co_await parley::select(a.pop(), b.push(std::move(value)));
        CHECK(first.index() == 1);
        CHECK(std::get<1>(first));
        CHECK(!value);
        value = std::make_unique<int>(5);
        CHECK(a.try_push(1));
        auto second = co_await parley::select(a.pop(), b.push(std::move(value)));
        REQUIRE(second.index() == 0);
        CHECK(*std::get<0>(second) == 1);
        REQUIRE(value);
        auto third = parley::try_select(a.pop(), b.pop());
        REQUIRE(third);
        REQUIRE(third->index() == 1);
        CHECK(**std::get<1>(*third) == 4);
        a.close();
        auto fourth = co_await parley::select(a.pop(), b.pop());
        REQUIRE(fourth.index() == 0);
        CHECK(std::get<0>(fourth).error() == errc::end_of_stream);
    }());
}

TEST_CASE("select waits, is woken by one channel, and waits at the others no longer") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto a = channel<int>::rendezvous();
        auto b = channel<int>::rendezvous();
        co_await parley::with_scope([&](scope &s) -> task<> {
            int got = 0;
            s.spawn([&]() -> task<> {
                auto which = co_await parley::select(a.pop(), b.pop(), a.pop());
                got = which.index() == 1 ? *std::get<1>(which) : -1;
            });
            co_await yields(2);
            CHECK(b.try_push(7));
            CHECK(!a.try_push(8)); // although the task has not run yet
            CHECK(!b.try_push(9));
            co_await yields(2);
            CHECK(got == 7);

            s.spawn([&]() -> task<> { // both sides of a rendezvous are selects
                auto which = co_await parley::select(a.push(1), b.push(2));
                CHECK(which.index() == 1);
            });
            co_await yields(2);
            auto which = co_await parley::select(b.pop());
            CHECK(*std::get<0>(which) == 2);
            CHECK(!a.try_pop());
        });
    }());
}

TEST_CASE("of several that can go each has its chance") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto a = channel<int>::unbounded();
        auto b = channel<int>::unbounded();
        auto c = channel<int>::unbounded(); // nothing in it: its turns are not given to a neighbour
        int first = 0;
        for (int i = 0; i < 1000; ++i) {
            CHECK(a.try_push(i));
            CHECK(b.try_push(i));
            auto which = co_await parley::select(a.pop(), b.pop(), c.pop());
            first += which.index() == 0;
            CHECK(which.index() != 2);
        }
        CHECK(first > 400);
        CHECK(first < 600);
    }());
}

TEST_CASE("select for a limited time, in a simulated world") {
    auto failure = parley::sim::search("select_for", 20, [](parley::sim::world &world) {
        world.run([&] {
            runtime rt(on_loops(1));
            rt.sync_wait([](parley::sim::world &here) -> task<> {
                auto a = channel<int>::rendezvous();
                auto b = channel<int>::rendezvous();
                auto none = co_await parley::select_for(1s, a.pop(), b.push(1));
                here.expect(!none && none.error() == errc::timed_out, "nobody came");
                here.expect(!a.try_push(1) && !b.try_pop(), "and nobody waits");
                co_await parley::with_scope([&](scope &s) -> task<> {
                    s.spawn([&]() -> task<> {
                        auto one = co_await parley::select_for(1h, a.pop(), b.push(1));
                        here.expect(one && one->index() == 1, "it was taken");
                    });
                    co_await parley::sleep_for(1s);
                    here.expect(b.try_pop() == 1, "it was there");
                });
            }(world));
        });
    });
    if (failure)
        FAIL(*failure);
}

TEST_CASE("every value arrives once, with selects and cancels on four loops") {
    no_frames_left check;
    for (std::size_t width : {std::size_t{0}, std::size_t{2}, SIZE_MAX})
        CHECK(exchange(4, 6, 400, width) == nullptr);
}

TEST_CASE("every value arrives once, in simulated worlds") {
    auto failure = parley::sim::search("select", 60, [](parley::sim::world &world) {
        const std::size_t width = world.draw(3);
        world.run([&] {
            const char *fault = exchange(2, 3, 6, width);
            world.expect(!fault, fault ? fault : "");
        });
    });
    if (failure)
        FAIL(*failure);
}

TEST_CASE("threads that are no loop feed and empty a channel, in order") {
    no_frames_left check;
    constexpr int each = 3000;
    auto in = channel<int>::bounded(4);
    ledger book(4 * each);
    std::vector<std::thread> feeders;
    std::atomic<int> left{4};
    for (int p = 0; p < 4; ++p)
        feeders.emplace_back([&, p] {
            for (int i = p * each; i < (p + 1) * each; ++i)
                while (!in.try_push(i))
                    std::this_thread::yield();
            if (--left == 0)
                in.close();
        });
    parley::run([](channel<int> &from, ledger &to) -> task<> {
        std::vector<int> last(4, -1);
        while (auto v = co_await from.pop())
            to.note(last, *v, each);
    }(in, book));
    for (auto &t : feeders)
        t.join();
    CHECK(book.verdict() == nullptr);
}
