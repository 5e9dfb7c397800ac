#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
using parley::with_deadline;
using parley::with_timeout;
namespace sim = parley::sim;

namespace {

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

} // namespace

TEST_CASE("work that is in time keeps its value, and no timer is left") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        auto value = co_await with_timeout(1h, after(1s, 42));
        CHECK(value.value() == 42);
        auto nothing = co_await with_timeout(1h, parley::sleep_for(1s));
        CHECK(nothing.has_value());
        auto kept = co_await with_timeout(1h, [&]() -> task<std::string> { co_return "kept"; });
        CHECK(*kept == "kept");
    });
    CHECK(about(took, 2s));
}

TEST_CASE("work that is late is cancelled and awaited; the error says at which stage it stood") {
    no_frames_left check;
    bool ended = false;
    auto took = in_world([&](sim::world &) -> task<> {
        auto slow_to_stop = [&]() -> task<int> {
            co_await parley::finally(after(1h, 1), [&]() -> task<> {
                co_await parley::sleep_for(5s);
                ended = true;
            });
            co_return 1;
        };
        auto late = co_await with_timeout(1s, slow_to_stop());
        CHECK(ended);
        REQUIRE_FALSE(late);
        CHECK(late.error() == parley::errc::timed_out);
        CHECK(late.error() == std::errc::timed_out);
        CHECK(late.error().stage() == parley::stage::sleep);
        CHECK(late.error().detail() == "limit 1 s");
    });
    CHECK(about(took, 6s));
}

TEST_CASE("a result is flattened") {
    in_world([](sim::world &) -> task<> {
        auto failing = []() -> task<parley::result<int>> {
            co_await parley::sleep_for(1s);
            co_return parley::unexpected(parley::errc::closed);
        };
        auto failed = co_await with_timeout(1h, failing());
        static_assert(std::is_same_v<decltype(failed), parley::result<int>>);
        CHECK(failed.error() == parley::errc::closed);
        auto late = co_await with_timeout(1ms, failing());
        CHECK(late.error() == parley::errc::timed_out);
    });
}

TEST_CASE("an exception of the work is thrown, and so is one that it throws when it is cancelled") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        auto throws = [](std::chrono::seconds time) -> task<int> {
            try {
                co_await parley::sleep_for(time);
            } catch (const parley::cancelled &) {
                throw std::runtime_error("while it unwound");
            }
            throw std::runtime_error("by itself");
        };
        std::string caught;
        try {
            static_cast<void>(co_await with_timeout(1min, throws(1s)));
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(caught == "by itself");
        try {
            static_cast<void>(co_await with_timeout(1s, throws(60s)));
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(caught == "while it unwound");
    });
}

TEST_CASE("a value that comes although the time is up counts") {
    in_world([](sim::world &) -> task<> {
        auto insists = []() -> task<int> {
            auto stopped = co_await parley::stop_as_error(parley::sleep_for(1h));
            CHECK(stopped.error() == parley::errc::stopping);
            co_return 9;
        };
        auto value = co_await with_timeout(1s, insists());
        CHECK(value.value() == 9);
    });
}

TEST_CASE("of nested limits the nearest counts, and says so") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        bool inner_returned = false;
        auto outer = co_await with_timeout(1s, [&]() -> task<int> {
            auto inner = co_await with_timeout(1h, after(2h, 1));
            inner_returned = true;
            co_return *inner;
        });
        CHECK(outer.error().detail() == "limit 1 s");
        CHECK(outer.error().stage() == parley::stage::sleep);
        CHECK_FALSE(inner_returned); // the outer limit unwinds through the inner one
        auto kept = co_await with_timeout(1h, [&]() -> task<int> {
            auto inner = co_await with_timeout(1s, after(2h, 1));
            CHECK(inner.error() == parley::errc::timed_out);
            co_return 3;
        });
        CHECK(kept.value() == 3);
    });
    CHECK(about(took, 2s));
}

TEST_CASE("what remains of the budget is seen from below, across scopes and combinators") {
    in_world([](sim::world &) -> task<> {
        auto none = co_await parley::time_left();
        CHECK_FALSE(none);
        auto seen = co_await with_timeout(10s, []() -> task<int> {
            co_await parley::sleep_for(4s);
            auto [left, more] = co_await parley::when_all(parley::time_left(), []() -> task<int> {
                int below = 0;
                co_await parley::with_scope([&](parley::scope &) -> task<> {
                    auto inner = co_await with_timeout(1h, parley::time_left());
                    CHECK((*inner)->count() <= 6'000'000'000);
                    below = 1;
                });
                co_return below;
            });
            CHECK(*left <= 6s);
            CHECK(*left > 5s);
            co_return more;
        });
        CHECK(seen.value() == 1);
    });
}

TEST_CASE("a deadline is a point of a clock") {
    auto took = in_world([](sim::world &world) -> task<> {
        const std::chrono::steady_clock::time_point now{
            std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                std::chrono::nanoseconds(parley::detail::monotonic_now()))};
        auto late = co_await with_deadline(now + 2s, parley::sleep_for(1h));
        CHECK(late.error() == parley::errc::timed_out);
        auto past = co_await with_deadline(now, parley::sleep_for(1h));
        CHECK(past.error() == parley::errc::timed_out);
        const auto today = std::chrono::system_clock::time_point(
            std::chrono::duration_cast<std::chrono::system_clock::duration>(
                std::chrono::nanoseconds(parley::detail::realtime_now())));
        auto later = co_await with_deadline(today + 3s, parley::sleep_for(1h));
        CHECK(later.error() == parley::errc::timed_out);
        static_cast<void>(world);
    });
    CHECK(about(took, 5s));
}

TEST_CASE("of zero time, what is ready is done and what must wait is not") {
    in_world([](sim::world &) -> task<> {
        auto ready = co_await with_timeout(0s, []() -> task<int> { co_return 1; });
        CHECK(ready.value() == 1);
        auto waits = co_await with_timeout(0s, parley::sleep_for(1ms));
        CHECK(waits.error() == parley::errc::timed_out);
    });
}

TEST_CASE("the error of a request names its stage and its peer") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        auto never = [](parley::connection<lines> peer) -> task<> {
            while (auto order = co_await peer.recv())
                co_await parley::sleep_for(24h);
        };
        parley::server<lines> door(parley::endpoint("127.0.0.1", 0), never);
        auto where = co_await door.listen();
        parley::client<lines> client(where.value());
        auto answer = co_await with_timeout(2s, client.request(parley::line_message("anybody?")));
        REQUIRE_FALSE(answer);
        CHECK(answer.error().stage() == parley::stage::first_byte);
        CHECK(answer.error().peer() == where->to_string());
        CHECK(about(answer.error().elapsed(), 2s));

        auto two = co_await with_timeout(
            3s, parley::when_any(client.request(parley::line_message("you?")), parley::sleep_for(1h)));
        CHECK(two.error().stage() == parley::stage::first_byte);
        CHECK(two.error().peer() == where->to_string());
    });
    CHECK(took < 6s);
}

TEST_CASE("a cancel from above goes through") {
    no_frames_left check;
    bool went_on = false;
    auto took = in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                static_cast<void>(co_await with_timeout(1h, parley::sleep_for(2h)));
                went_on = true;
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
    });
    CHECK_FALSE(went_on);
    CHECK(about(took, 1s));
}
