// Settings that make no sense, or little: too many threads, no time, less than no time, no room. Each is
// refused or means what its comment says, and never something else.

#include "scripted.h"

#include <limits.h>

#include <algorithm>

#include "CommScheduler.h"
#include "Executor.h"
#include "forwarding_world.h"
#include "peers.h"

using namespace scripted;
using peers::Nap;
using wire::Listener;
using wire::Peer;

namespace {

// Has no more threads and descriptors than a small machine.
class Small : public fixture::ForwardingWorld {
public:
    static constexpr int64_t most = 100;
    std::atomic<int64_t> threads{0}, descriptors{0};

    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        if (threads == most)
            return EAGAIN;
        int error = real.thread_start(thread, run, argument);
        threads += error == 0;
        return error;
    }
    void thread_join(parley::sys::thread_handle thread) override {
        real.thread_join(thread);
        threads--;
    }
    int epoll_create() override { return full() ? -1 : opened(real.epoll_create()); }
    int eventfd() override { return full() ? -1 : opened(real.eventfd()); }
    int close(int fd) override {
        descriptors--;
        return real.close(fd);
    }

private:
    bool full() {
        errno = EMFILE;
        return descriptors == most;
    }
    int opened(int fd) {
        descriptors += fd >= 0;
        return fd;
    }
};

} // namespace

TEST_CASE("more threads than there are: init() fails, and none is left") {
    Small world;
    fixture::InstalledWorld installed(world);
    for (size_t loops : {size_t{1000}, size_t{1000000}}) {
        CAPTURE(loops);
        Communicator comm;
        errno = 0;
        CHECK(comm.init(loops, 0) == -1);
        CHECK(errno == EMFILE);
        CHECK(world.descriptors == 0);
    }
    for (size_t handlers : {size_t{1000}, size_t{1000000}}) {
        CAPTURE(handlers);
        Communicator comm;
        errno = 0;
        CHECK(comm.init(1, handlers) == -1);
        CHECK(errno == EAGAIN);
        CHECK(world.threads == 0);
        CHECK(world.descriptors == 0);
    }
    Communicator comm;
    errno = 0;
    CHECK(comm.init(0, 5) == -1);
    CHECK(errno == EINVAL);
    CHECK(comm.init(1, 1) == 0);
}

TEST_CASE("any negative limit of time is none") {
    for (int none : {-1, -2, -1000, INT_MIN}) {
        CAPTURE(none);
        Net net;
        net.comm.set_default_deadlines({none, none, none});
        Service service(net.comm, wire::Address::loopback(), none, none);
        service.at_request = service.hold();
        service.at_birth = [&](Served *session) { session->timeouts = {none, none, none, none}; };
        service.set_deadlines({none, none, none});
        service.start();
        Target target(service.address(), none, none);
        target.set_deadlines({none, none, none});
        for (int i = 0; i < 2; i++) { // the second one is sent on the connection that was kept
            Client client;
            client.timeouts = {none, none, none, none};
            REQUIRE(net.comm.request(&client, &target) == 0);
            Served *session = service.requests.take();
            net.settle(); // a limit of no time would have ended it by now
            CHECK(client.ends.size() == 0);
            CHECK(session->reply("pong\n") == 0);
            CHECK(client.end() == success(i));
            net.settle();
        }
        CHECK(target.has_idle_conn());
        CHECK(service.stops.size() == 0);
    }
}

TEST_CASE("a limit of no time ends what it limits, at once and with its cause") {
    Net net;
    Listener listener;
    SUBCASE("connecting") {
        wire::Swamp swamp;
        Target target(swamp.address(), 0, -1);
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_CONNECT, 0});
    }
    SUBCASE("the gap between two steps") {
        Target target(listener.address(), -1, 0);
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        End end = client.end();
        CHECK(end.state == CS_STATE_ERROR);
        CHECK(end.error == ETIMEDOUT);
    }
    SUBCASE("listening") {
        Service service(net.comm, wire::Address::loopback(), -1, 0);
        service.start();
        CHECK(service.stops.take() == ETIMEDOUT);
    }
    SUBCASE("the first message of a connection") {
        Service service(net.comm);
        service.set_deadlines({0, -1, -1});
        service.start();
        Peer peer(service.address());
        CHECK(peer.rest().empty());
    }
    SUBCASE("a timer") {
        Nap nap(std::chrono::nanoseconds(0));
        REQUIRE(net.comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        CHECK(nap.is(SS_STATE_COMPLETE, 0));
    }
}

TEST_CASE("no room for pushed bytes refuses every push and nothing else") {
    Net net;
    net.comm.set_push_high_water(0);
    Service service(net.comm);
    int result = 0, error = 0;
    service.at_request = [&](Served *session) {
        result = net.comm.push("x\n", 2, session);
        error = errno;
        session->reply("pong\n");
    };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "pong\n");
    service.ends.take();
    CHECK(result == -1);
    CHECK(error == EAGAIN);
}

TEST_CASE("a pipeline of no requests, or less, is one of one") {
    for (int width : {0, -1, INT_MIN}) {
        CAPTURE(width);
        Net net;
        Service service(net.comm);
        service.pipeline = width;
        service.start();
        Peer peer(service.address());
        peer.send("one\ntwo\nthree\n");
        CHECK(peer.read(14) == "one\ntwo\nthree\n");
    }
}

TEST_CASE("a pipeline of any width takes what comes and no more") {
    Net net;
    Service service(net.comm);
    service.pipeline = INT_MAX;
    service.start();
    Peer peer(service.address());
    peer.send("one\ntwo\nthree\n");
    CHECK(peer.read(14) == "one\ntwo\nthree\n");
}

TEST_CASE("an executor without threads, or with more than there are, is refused and leaves none") {
    Small world;
    fixture::InstalledWorld installed(world);
    Executor executor;
    CHECK(executor.init(0) == -1);
    CHECK(errno == EINVAL);
    CHECK(executor.init(1000000) == -1);
    CHECK(errno == EAGAIN);
    CHECK(world.threads == 0);
    CHECK(executor.init(1) == 0);
    executor.deinit();
}

TEST_CASE("a target for no connections and a file service for no operations are EINVAL") {
    CommSchedTarget target;
    wire::Address at = wire::Address::loopback();
    CHECK(target.init(at.get(), at.size, -1, -1, 0) == -1);
    CHECK(errno == EINVAL);
    class Files : public IOService {
        void handle_unbound() override {}
    } files;
    for (int events : {0, -1, INT_MIN}) {
        CHECK(files.init(events) == -1);
        CHECK(errno == EINVAL);
    }
}

TEST_CASE("a number of loops that no memory could hold is refused, and nothing is thrown") {
    for (size_t loops : {SIZE_MAX, SIZE_MAX / 8, SIZE_MAX / 16}) {
        Communicator comm;
        int result = 0;
        CHECK_NOTHROW(result = comm.init(loops, 0));
        CHECK(result == -1);
    }
}
