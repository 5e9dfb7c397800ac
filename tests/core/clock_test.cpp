// Clocks that tests set: a machine that has been up for decades, limits of weeks, a wall clock that jumps.
// Time passes when the test says so.

#include "scripted.h"

#include <limits.h>

#include <memory>

#include "clocks.h"
#include "peers.h"

using namespace scripted;
using fixture::Clocks;
using peers::Nap;
using wire::Listener;
using wire::Peer;

namespace {

constexpr int64_t second = 1000000000, ms = 1000000, year = 365 * 86400 * second;

} // namespace

TEST_CASE("on a machine that has been up for sixty years everything keeps its time") {
    Clocks world(2000000000 * second);
    fixture::InstalledWorld installed(world);
    Net net(2);
    Service service(net.comm, wire::Address::loopback(), 60000);
    service.start();
    Target target(service.address(), 60000, 60000);
    Client client;
    client.timeouts.receive = 60000;
    client.timeouts.first = 60000;
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(0));

    Peer silent(service.address());
    wire::until([&] { return service.connections->born == 2; });
    net.settle(0);
    net.settle(1);
    Nap nap(std::chrono::seconds(30));
    REQUIRE(net.comm.sleep(&nap) == 0);
    world.pass(net, 29 * second);
    CHECK(nap.handled == 0);
    CHECK_FALSE(silent.readable_now());
    world.pass(net, 2 * second);
    REQUIRE(nap.done.wait());
    CHECK(nap.is(SS_STATE_COMPLETE, 0));
    world.pass(net, 30 * second); // the service's limit for the silent
    CHECK(silent.rest().empty());
}

TEST_CASE("limits of INT_MAX milliseconds end after 24.8 days and not before") {
    for (int64_t up : {int64_t{0}, 2000000000 * second}) {
        CAPTURE(up);
        Clocks world(up);
        fixture::InstalledWorld installed(world);
        Net net;
        Listener listener;
        Target target(listener.address(), INT_MAX, INT_MAX);
        for (int kind = 0; kind < 3; kind++) {
            CAPTURE(kind);
            Client client;
            (kind == 0   ? client.timeouts.receive
             : kind == 1 ? client.timeouts.first
                         : client.timeouts.send) = INT_MAX;
            REQUIRE(net.comm.request(&client, &target) == 0);
            Peer peer = listener.accept();
            CHECK(peer.line() == "ping\n");
            net.settle();
            world.pass(net, INT_MAX * ms - 60 * second);
            CHECK(client.ends.size() == 0);
            world.pass(net, 120 * second);
            End end = client.end();
            CHECK(end.state == CS_STATE_ERROR);
            CHECK(end.error == ETIMEDOUT);
        }
    }
}

TEST_CASE("timers of 2^31 and 2^32 milliseconds, and of a century, fire when their time has come") {
    for (int64_t up : {int64_t{0}, 2000000000 * second}) {
        CAPTURE(up);
        for (int64_t length : {(int64_t{1} << 31) * ms, (int64_t{1} << 32) * ms, 100 * year}) {
            CAPTURE(length);
            Clocks world(up);
            fixture::InstalledWorld installed(world);
            Net net;
            Nap nap{std::chrono::nanoseconds(length)};
            REQUIRE(net.comm.sleep(&nap) == 0);
            net.settle();
            world.pass(net, length - 60 * second);
            CHECK(nap.handled == 0);
            world.pass(net, 120 * second);
            REQUIRE(nap.done.wait());
            CHECK(nap.is(SS_STATE_COMPLETE, 0));
        }
    }
}

TEST_CASE("a wall clock that jumps by ten years ends nothing early and nothing late") {
    for (int64_t jump : {10 * year, -10 * year}) {
        CAPTURE(jump);
        Clocks world;
        fixture::InstalledWorld installed(world);
        Net net;
        Service service(net.comm, wire::Address::loopback(), 60000);
        service.start();
        Listener listener;
        Target target(listener.address(), 60000, 60000);
        Peer silent(service.address());
        wire::until([&] { return service.connections->born == 1; });
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        Nap nap(std::chrono::seconds(30));
        REQUIRE(net.comm.sleep(&nap) == 0);
        net.settle();
        world.set_wall(net, jump);
        CHECK(nap.handled == 0);
        CHECK(client.ends.size() == 0);
        CHECK_FALSE(silent.readable_now());
        world.pass(net, 120 * second);
        REQUIRE(nap.done.wait());
        CHECK(nap.is(SS_STATE_COMPLETE, 0));
        End end = client.end();
        CHECK(end.error == ETIMEDOUT);
        CHECK(silent.rest().empty());
    }
}

TEST_CASE("a hundred thousand timers of one deadline fire once each, in the order they were started") {
    constexpr size_t n = 100000;
    class Counted : public SleepSession {
    public:
        std::vector<size_t> *order = nullptr;
        wire::Inbox<bool> *last = nullptr;
        size_t number = 0;

    private:
        int duration(struct timespec *value) override {
            *value = {30, 0};
            return 0;
        }
        void handle(int, int) override {
            order->push_back(number);
            if (order->size() == n)
                last->put(true);
        }
    };
    Clocks world;
    fixture::InstalledWorld installed(world);
    Net net;
    std::vector<size_t> order;
    wire::Inbox<bool> last;
    auto timers = std::make_unique<Counted[]>(n);
    net.on_loop([&] { // in one callback: the loop's time stands still, the deadlines are equal
        for (size_t i = 0; i < n; i++) {
            timers[i].order = &order;
            timers[i].last = &last;
            timers[i].number = i;
            if (net.comm.sleep(&timers[i]) != 0)
                break;
        }
    });
    world.pass(net, 29 * second);
    net.on_loop([&] { CHECK(order.empty()); });
    world.pass(net, 2 * second);
    last.take();
    net.on_loop([&] {
        REQUIRE(order.size() == n);
        bool in_order = true;
        for (size_t i = 0; i < n; i++)
            in_order = in_order && order[i] == i;
        CHECK(in_order);
    });
    CHECK(net.comm.loop(0)->counters().timers == n);
}
