// What epoll may say besides the truth: events of a connection that has gone, and readiness that is none.

#include "scripted.h"

#include <algorithm>
#include <memory>

#include "forwarding_world.h"

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

// Remembers under which name each descriptor was registered, and tells a loop what it is told to.
class LyingWorld : public fixture::ForwardingWorld {
public:
    // Of the last registration.
    uint64_t newest() const {
        std::lock_guard lock(mutex_);
        return newest_;
    }
    // With the loop's next events; returns when it has had them.
    void tell(Net &net, uint64_t name, uint32_t events) {
        {
            std::lock_guard lock(mutex_);
            lie_.data.u64 = name;
            lie_.events = events;
            lying_ = true;
        }
        net.settle();
        wire::until([&] {
            std::lock_guard lock(mutex_);
            return !lying_;
        });
        net.settle();
    }

    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        if (operation == EPOLL_CTL_ADD) {
            std::lock_guard lock(mutex_);
            newest_ = event->data.u64;
        }
        return real.epoll_ctl(epfd, operation, fd, event);
    }
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        int n = real.epoll_wait(epfd, events, max, timeout_ns);
        std::lock_guard lock(mutex_);
        if (lying_ && n >= 0 && n < max) {
            events[n++] = lie_;
            lying_ = false;
        }
        return n;
    }

private:
    mutable std::mutex mutex_;
    uint64_t newest_ = 0;
    struct epoll_event lie_ = {};
    bool lying_ = false;
};

constexpr uint32_t everything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr uint32_t readiness = EPOLLIN | EPOLLOUT;

void ask_again(Peer &peer) {
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
}

} // namespace

TEST_CASE("an event of a connection that has gone does nothing to the one that has its place") {
    LyingWorld world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.start();
    uint64_t gone;
    {
        Peer peer(service.address());
        ask_again(peer);
        gone = world.newest();
    }
    wire::until([&] { return service.connections->dead == 1; });
    SUBCASE("a service's connection") {
        Peer peer(service.address());
        ask_again(peer);
        REQUIRE(world.newest() != gone);
        REQUIRE(static_cast<uint32_t>(world.newest()) == static_cast<uint32_t>(gone)); // or it shows nothing
        world.tell(net, gone, everything);
        ask_again(peer);
        CHECK(service.connections->born == 2);
        CHECK(service.connections->dead == 1);
    }
    SUBCASE("a client's connection") {
        Listener listener;
        Target target(listener.address());
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        REQUIRE(static_cast<uint32_t>(world.newest()) == static_cast<uint32_t>(gone));
        world.tell(net, gone, everything);
        peer.send("pong\n");
        CHECK(client.end() == success(0));
    }
    SUBCASE("nobody's") {
        world.tell(net, gone, everything);
    }
}

TEST_CASE("a readiness that is none does nothing, in any state of a service's connection") {
    LyingWorld world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    wire::until([&] { return service.connections->born == 1; });
    net.settle();
    uint64_t name = world.newest();
    world.tell(net, name, readiness); // silent
    peer.send("pi");
    net.settle();
    world.tell(net, name, readiness); // receiving
    peer.send("ng\n");
    Served *session = service.requests.take();
    world.tell(net, name, readiness); // awaiting its reply
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
    world.tell(net, name, readiness); // kept alive
    peer.send("ping\n");
    CHECK(service.requests.take()->reply("pong\n") == 0);
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(1));
}

TEST_CASE("a readiness that is none does nothing, in any state of a client's connection") {
    LyingWorld world;
    fixture::InstalledWorld installed(world);
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    uint64_t name = world.newest();
    world.tell(net, name, readiness); // awaiting its answer
    peer.send("po");
    net.settle();
    world.tell(net, name, readiness); // receiving
    peer.send("ng\n");
    CHECK(client.end() == success(0));
    world.tell(net, name, readiness); // pooled
    CHECK(target.has_idle_conn());
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(peer.line() == "ping\n");
    peer.send("pong\n");
    CHECK(client.end() == success(1));
}

TEST_CASE("a half-closed connection that awaits a reply lets its loop sleep, whatever epoll says") {
    LyingWorld world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    SUBCASE("with room for no more requests") {
        service.pipeline = 1;
    }
    SUBCASE("with room for more requests") {
        service.pipeline = 4;
    }
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    uint64_t name = world.newest();
    peer.finish();
    net.settle();
    world.tell(net, name, readiness | EPOLLRDHUP);
    uint64_t turns = net.comm.loop(0)->counters().turns;
    poll(nullptr, 0, 50);
    CHECK(net.comm.loop(0)->counters().turns - turns <= 3);
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.rest() == "pong\n");
    CHECK(service.ends.take() == success(0));
}
