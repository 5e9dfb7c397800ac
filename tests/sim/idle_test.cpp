// More connections than the descriptors of a process allow.

#include <doctest/doctest.h>

#include <parley/core/CommScheduler.h>
#include <parley/sim/world.hpp>

#include <netinet/in.h>

#include <atomic>
#include <cstring>
#include <vector>

using namespace std::chrono_literals;
namespace sim = parley::sim;
namespace sys = parley::sys;

namespace {

// Accepts, and never hears a word.
class silence : public CommService {
public:
    std::atomic<std::size_t> connections{0};
    parley::sync::mutex mutex;
    parley::sync::condition_variable changed;
    bool unbound = false;

    void await(std::size_t count) {
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex);
        changed.wait(lock, [&] { return connections == count; });
    }
    void await_end() {
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex);
        changed.wait(lock, [&] { return unbound; });
    }

private:
    CommConnection *new_connection(int) override {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex);
        connections++;
        changed.notify_all();
        return new CommConnection;
    }
    CommSession *new_session(long long, CommConnection *) override { return nullptr; }
    void handle_unbound() override {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex);
        unbound = true;
        changed.notify_all();
    }
};

} // namespace

TEST_CASE("fifty thousand idle connections sleep for a day and wake nobody") {
    sim::world world{1};
    world.local().limit_ports(1024, 65535);
    world.run([&] {
        CommScheduler scheduler;
        REQUIRE(scheduler.init(2, 0) == 0);
        silence service;
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(service.init(reinterpret_cast<sockaddr *>(&at), sizeof at, -1, -1) == 0);
        REQUIRE(scheduler.bind(&service) == 0);
        socklen_t size = sizeof at;
        REQUIRE(service.get_local_addr(reinterpret_cast<sockaddr *>(&at), &size) == 0);

        constexpr std::size_t count = 50'000;
        std::vector<int> clients;
        for (std::size_t i = 0; i < count; i++) {
            clients.push_back(sys::socket(AF_INET, SOCK_STREAM, 0));
            REQUIRE(sys::connect(clients.back(), reinterpret_cast<sockaddr *>(&at), sizeof at) == 0);
            if (i % 100 == 99)
                service.await(i + 1);
        }
        const auto turns = [&] {
            return scheduler.communicator().loop(0)->counters().turns +
                   scheduler.communicator().loop(1)->counters().turns;
        };
        world.sleep(1s);
        const auto before = turns();
        world.sleep(24h);
        CHECK(turns() == before);

        scheduler.unbind(&service);
        service.await_end();
        for (const int fd : clients)
            sys::close(fd);
        scheduler.deinit();
        service.deinit();
    });
}
