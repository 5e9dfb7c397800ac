// The total deadlines that stand beside the classic timeouts: of the Communicator, of a target, of a service.

#include "late.h"

using namespace scripted;
using wire::Listener;
using wire::Stopwatch;

namespace {

CommDeadlines only(int CommDeadlines::*which, int ms) {
    CommDeadlines limits;
    limits.*which = ms;
    return limits;
}

} // namespace

TEST_CASE("the deadline for sending is a total limit without send_timeout") {
    CommDeadlines limits = only(&CommDeadlines::send, soon);
    bool own = false;
    SUBCASE("of the target") {
        own = true;
    }
    SUBCASE("of the Communicator") {
        own = false;
    }
    Communicator comm;
    if (!own)
        comm.set_default_deadlines(limits);
    REQUIRE(comm.init(1, 0) == 0);
    {
        Listener listener(wire::Address::loopback(), 16, 4096);
        Target target(listener.address());
        target.send_buffer = 4096;
        if (own)
            target.set_deadlines(limits);
        Client client(huge);
        REQUIRE(comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        dribble(peer, [&] { return client.ends.size() > 0; });
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_SEND, 0});
    }
    comm.deinit();
}

TEST_CASE("the deadline of the first message runs from the connection's birth") {
    CommDeadlines limits = only(&CommDeadlines::first_message, soon);
    bool own = false;
    SUBCASE("of the service") {
        own = true;
    }
    SUBCASE("of the Communicator") {
        own = false;
    }
    Communicator comm;
    if (!own)
        comm.set_default_deadlines(limits);
    REQUIRE(comm.init(1, 0) == 0);
    {
        Service service(comm);
        if (own)
            service.set_deadlines(limits);
        service.start();
        Stopwatch watch;
        Peer silent(service.address()), slow(service.address());
        drip(slow);
        CHECK(silent.rest().empty());
        CHECK(watch.ms() >= soon - turn);
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
        service.stop();
        CHECK(service.sessions.born == 1);
    }
    comm.deinit();
}

TEST_CASE("the deadline of later messages runs from their first byte") {
    Net net;
    Service service(net.comm);
    service.set_deadlines(only(&CommDeadlines::first_message, soon));
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
    CHECK(service.ends.take() == success(0));
    pass(later); // idle: keep_alive_timeout's affair
    Stopwatch watch;
    drip(peer);
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 1});
    CHECK(watch.ms() >= soon - turn);
}

TEST_CASE("a service's own deadlines stand instead of the Communicator's") {
    Communicator comm;
    comm.set_default_deadlines(only(&CommDeadlines::first_message, soon / 4));
    REQUIRE(comm.init(1, 0) == 0);
    {
        Service service(comm);
        service.set_deadlines({});
        service.start();
        Peer peer(service.address());
        pass(soon);
        peer.send("ping\n");
        CHECK(peer.line() == "ping\n");
    }
    comm.deinit();
}
