// What a world promises about time, threads, locks and its end.

#include <doctest/doctest.h>

#include <parley/sim/search.hpp>

#include <array>
#include <chrono>
#include <vector>

using namespace std::chrono_literals;
namespace sim = parley::sim;
namespace sys = parley::sys;

namespace {

// What a search of one seed says.
std::string said(const std::function<void(sim::world &)> &program) {
    auto failure = sim::search("a test's", 1, program);
    return failure ? failure->what : "nothing";
}

} // namespace

TEST_CASE("time stands still while anybody can run, and an hour takes none") {
    sim::world world{1};
    const auto began = std::chrono::steady_clock::now();
    world.run([&] {
        const int64_t before = sys::current().monotonic_ns();
        for (int i = 0; i < 1000; i++)
            world.point();
        CHECK(sys::current().monotonic_ns() == before);
        world.sleep(1h);
        CHECK(sys::current().monotonic_ns() == before + std::chrono::nanoseconds(1h).count());
        CHECK(world.now() == 1h);
    });
    CHECK(std::chrono::steady_clock::now() - began < 30s);
}

TEST_CASE("threads sleep beside one another, and wake in the order of their times") {
    sim::world world{7};
    std::vector<int> order;
    world.run([&] {
        std::vector<parley::sync::thread> threads;
        for (int i = 5; i > 0; i--) {
            threads.emplace_back([&, i] {
                world.sleep(i * 1s);
                order.push_back(i);
            });
        }
        for (parley::sync::thread &one : threads)
            one.join();
        CHECK(world.now() == 5s);
    });
    CHECK(order == std::vector<int>{1, 2, 3, 4, 5});
}

TEST_CASE("a condition's time limit is virtual, and a notification comes before it") {
    sim::world world{3};
    world.run([&] {
        parley::sync::mutex mutex;
        parley::sync::condition_variable condition;
        bool told = false;
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex);
        CHECK_FALSE(condition.wait_for(lock, 10min, [&] { return told; }));
        CHECK(world.now() == 10min);
        parley::sync::thread teller([&] {
            world.sleep(1min);
            parley::sync::lock_guard<parley::sync::mutex> guard(mutex);
            told = true;
            condition.notify_one();
        });
        CHECK(condition.wait_for(lock, 10min, [&] { return told; }));
        lock.unlock();
        teller.join();
        CHECK(world.now() == 11min);
    });
}

TEST_CASE("the same seed is the same run, another seed another one") {
    const auto run = [](std::uint64_t seed) {
        sim::world world{seed};
        std::string order;
        world.run([&] {
            std::vector<parley::sync::thread> threads;
            for (char name : {'a', 'b', 'c'}) {
                threads.emplace_back([&, name] {
                    for (int i = 0; i < 20; i++) {
                        order += name;
                        world.point();
                    }
                });
            }
            for (parley::sync::thread &one : threads)
                one.join();
        });
        return order;
    };
    std::vector<std::string> runs;
    for (std::uint64_t seed = 1; seed <= 20; seed++) {
        runs.push_back(run(seed));
        CHECK(run(seed) == runs.back());
    }
    std::sort(runs.begin(), runs.end());
    CHECK(std::unique(runs.begin(), runs.end()) - runs.begin() > 10);
}

TEST_CASE("a deadlock is a failure that says who holds what") {
    const std::string what = said([](sim::world &world) {
        world.run([&] {
            parley::sync::mutex a, b;
            parley::sync::thread other([&] {
                parley::sync::lock_guard<parley::sync::mutex> second(b);
                world.sleep(1ms);
                parley::sync::lock_guard<parley::sync::mutex> first(a);
            });
            parley::sync::lock_guard<parley::sync::mutex> first(a);
            world.sleep(1ms);
            parley::sync::lock_guard<parley::sync::mutex> second(b);
            other.join();
        });
    });
    CHECK(what.starts_with("deadlock: nobody can go on and nothing is due"));
    CHECK(what.find("main: waits for a mutex, held by thread 1") != std::string::npos);
    CHECK(what.find("thread 1: waits for a mutex, held by main") != std::string::npos);
}

TEST_CASE("what is left at the end of a run is told") {
    CHECK(said([](sim::world &world) {
              world.run([] { (void)sys::socket(AF_INET, SOCK_STREAM, 0); });
          }).find("descriptor #0: tcp 0.0.0.0:0") != std::string::npos);
    CHECK(said([](sim::world &world) {
              world.run([] { (void)sys::current().allocate(17); });
          }).find("17 bytes of sys::allocate") != std::string::npos);
    CHECK(said([](sim::world &world) {
              world.run([&] {
                  static parley::sync::thread left;
                  left = parley::sync::thread([&] { world.sleep(1s); });
              });
          }).find("not all of its threads") != std::string::npos);
    // A run outside of a search says it by an exception.
    sim::world world{1};
    CHECK_THROWS_AS(world.run([] { (void)sys::socket(AF_INET, SOCK_STREAM, 0); }), sim::failed);
}

TEST_CASE("a real descriptor, a closed one and a thread from elsewhere are named") {
    CHECK(said([](sim::world &world) {
              world.run([] { (void)sys::send(2, "x", 1, 0); });
          }).starts_with("send() was handed descriptor 2, which is real and none of the world's: "));
    CHECK(said([](sim::world &world) {
              world.run([] {
                  const int fd = sys::socket(AF_INET, SOCK_STREAM, 0);
                  sys::close(fd);
                  sys::close(fd);
              });
          }) == "close() was handed descriptor #0, which is not open");
    CHECK(said([](sim::world &world) {
              world.run([] { std::thread([] { (void)sys::monotonic_ns(); }).join(); });
          }).find("calls into the world but is none of its own") != std::string::npos);
}

TEST_CASE("a thread's last words, the destructors of its thread-local variables, are part of the run") {
    sim::world world{5};
    static parley::sync::mutex mutex;
    static int ended = 0;
    world.run([&] {
        struct last {
            int n = 0;
            ~last() {
                for (int i = 0; i < 10; i++)
                    parley::sync::lock_guard<parley::sync::mutex>{mutex};
                ended += n;
            }
        };
        std::vector<parley::sync::thread> threads;
        for (int i = 0; i < 4; i++) {
            threads.emplace_back([] {
                static thread_local last mine;
                mine.n = 1;
            });
        }
        for (parley::sync::thread &one : threads)
            one.join();
    });
    CHECK(ended == 4);
}

TEST_CASE("the clocks can be moved") {
    sim::world world{1};
    world.run([&] {
        const int64_t before = sys::current().monotonic_ns();
        world.jump(24h * 365 * 60);
        CHECK(sys::current().monotonic_ns() - before == std::chrono::nanoseconds(24h * 365 * 60).count());
        world.set_wall_clock(1s);
        CHECK(sys::current().realtime_ns() == 1'000'000'000);
        world.sleep(1s);
        CHECK(sys::current().realtime_ns() == 2'000'000'000);
    });
}
