#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
namespace sim = parley::sim;

TEST_CASE("stop_as_error tells of a cancel without a throw, once") {
    no_frames_left check;
    std::string story;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto slept = co_await parley::stop_as_error(parley::sleep_for(1h));
                CHECK_FALSE(slept);
                CHECK(slept.error() == parley::errc::stopping);
                CHECK(slept.error() == std::errc::operation_canceled);
                CHECK(slept.error().stage() == parley::stage::sleep);
                auto again = co_await parley::stop_as_error(after(1h, 1)); // begins no more
                CHECK(again.error() == parley::errc::stopping);
                story += "told twice, ";
                co_await parley::yield();
                story += "went on";
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
        auto value = co_await parley::stop_as_error(after(1s, 5));
        CHECK(value.value() == 5);
        story += "end";
    });
    CHECK(story == "told twice, end");
}

TEST_CASE("a stop token cancels the work from any thread of the world") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        std::stop_source source;
        parley::sync::thread stopper([&] {
            parley::runtime_options options;
            options.loops = 1;
            parley::run(options, after(3s, 1));
            source.request_stop();
        });
        auto stopped = co_await parley::with_stop_token(source.get_token(), after(1h, 1));
        CHECK(stopped.error() == parley::errc::stopping);
        CHECK(stopped.error().stage() == parley::stage::sleep);
        stopper.join();
    });
    CHECK(about(took, 3s));
}

TEST_CASE("a token that was stopped before: the work does not begin; one that never is does nothing") {
    no_frames_left check;
    parley::run([]() -> task<> {
        std::stop_source source;
        bool begun = false;
        auto work = [&]() -> task<int> {
            begun = true;
            co_return 1;
        };
        auto done = co_await parley::with_stop_token(source.get_token(), work);
        CHECK(done.value() == 1);
        CHECK(begun);
        begun = false;
        source.request_stop();
        auto refused = co_await parley::with_stop_token(source.get_token(), work);
        CHECK(refused.error() == parley::errc::stopping);
        CHECK_FALSE(begun);
        auto without = co_await parley::with_stop_token(std::stop_token(), work);
        CHECK(without.value() == 1);
        auto kept = co_await parley::with_stop_token(std::stop_token(), []() -> task<parley::result<int>> {
            co_return parley::unexpected(parley::errc::closed);
        });
        CHECK(kept.error() == parley::errc::closed);
    }());
}

TEST_CASE("a cancel from above goes through, and the token's callback is gone") {
    no_frames_left check;
    std::stop_source source;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                static_cast<void>(co_await parley::with_stop_token(source.get_token(), after(1h, 1)));
                FAIL("went on");
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
    });
    source.request_stop();
}

TEST_CASE("stops that race the end of the work: one of the two, and nothing is left") {
    no_frames_left check;
    constexpr int rounds = 2000;
    std::atomic<std::stop_source *> next{nullptr};
    std::atomic<bool> over{false};
    std::thread stopper([&] {
        while (!over.load()) {
            if (std::stop_source *source = next.exchange(nullptr)) {
                source->request_stop();
                delete source;
            }
        }
    });
    int stopped = 0, done = 0;
    parley::run([](auto &handed, int &stops, int &values) -> task<> {
        for (int i = 0; i < rounds; ++i) {
            auto *source = new std::stop_source;
            auto token = source->get_token();
            handed.store(source);
            auto yields = [i]() -> task<int> {
                for (int n = 0; n < i % 16; ++n)
                    co_await parley::yield();
                co_return 1;
            };
            auto ended = co_await parley::with_stop_token(token, yields);
            ++(ended ? values : stops);
            while (handed.load() != nullptr)
                std::this_thread::yield();
        }
    }(next, stopped, done));
    over.store(true);
    stopper.join();
    CHECK(stopped + done == rounds);
}
