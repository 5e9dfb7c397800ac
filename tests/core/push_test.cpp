// Output outside the turns: push() of bytes, whole or not at all, and CommPush, which is queued and
// completes; both in order with the replies.

#include "scripted.h"

#include <memory>
#include <thread>

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

struct Pushed {
    int state;
    int error;
    bool on_loop;

    bool operator==(const Pushed &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const Pushed &p) {
        return out << "{state " << p.state << ", error " << p.error << (p.on_loop ? ", on the loop}" : "}");
    }
};

const Pushed pushed = {CS_STATE_SUCCESS, 0, true};

class Push : public CommPush {
public:
    Push(CommSession *on, std::string text) : CommPush(on), out(std::move(text)) {}

    Text out;
    CommMessageOut *give_out = &out;
    int give_errno = 0;
    wire::Inbox<Pushed> ends;

private:
    CommMessageOut *message_out() override {
        errno = give_errno;
        return give_out;
    }
    void handle(int state, int error) override { ends.put({state, error, CommLoop::current() != nullptr}); }
};

int push(Communicator &comm, std::string_view bytes, CommSession *session) {
    return comm.push(bytes.data(), bytes.size(), session);
}

const std::string chunk = std::string(50000, 'c') + "\n";
const std::string large = std::string(size_t{1} << 20, 'x') + "\n";

} // namespace

TEST_CASE("pushed bytes go out at once, before the reply") {
    wire::Address at = wire::Address::loopback();
    SUBCASE("over TCP") {}
    SUBCASE("over AF_UNIX") {
        at = wire::Address::local();
    }
    Net net;
    Service service(net.comm, at);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    CHECK(push(net.comm, "from a thread\n", session) == 14);
    CHECK(peer.line() == "from a thread\n");
    net.on_loop([&] {
        CHECK(push(net.comm, "from the loop\n", session) == 14);
        CHECK(push(net.comm, "", session) == 0);
    });
    CHECK(peer.line() == "from the loop\n");
    CHECK(push(net.comm, "and again\n", session) == 10);
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.read(15) == "and again\npong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a push is taken whole or refused with EAGAIN, and what was taken arrives in order") {
    Net net;
    net.comm.set_push_high_water(200000);
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    int taken = 0;
    auto fill = [&] {
        int n = 0;
        while ((n = push(net.comm, chunk, session)) == static_cast<int>(chunk.size()))
            taken++;
        CHECK(n == -1);
        CHECK(errno == EAGAIN);
    };
    SUBCASE("on the loop") {
        net.on_loop(fill);
    }
    SUBCASE("from another thread") {
        fill();
    }
    CHECK(taken >= 4);
    CHECK(session->reply("pong\n") == 0);
    for (int i = 0; i < taken; i++)
        CHECK((peer.line() == chunk));
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a push larger than the socket holds is kept and written when there is room") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    net.on_loop([&] { CHECK(push(net.comm, large, session) == static_cast<int>(large.size())); });
    CHECK((peer.line() == large));
    CHECK(push(net.comm, "small\n", session) == 6); // the mark counts what waits, not what went
    CHECK(peer.line() == "small\n");
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a session may push while it receives") {
    Net net;
    Service service(net.comm);
    service.at_birth = [&](Served *session) {
        session->in.script = [&, session](const char *bytes, size_t *size) {
            CHECK(push(net.comm, "so far\n", session) == 7);
            return session->in.take(bytes, size);
        };
    };
    service.start();
    Peer peer(service.address());
    peer.send("pi");
    CHECK(peer.line() == "so far\n");
    peer.send("ng\n");
    CHECK(peer.read(12) == "so far\nping\n");
}

TEST_CASE("after the end a push is refused with ENOENT") {
    Net net;
    Service service(net.comm);
    service.at_birth = [](Served *session) { session->stays = true; };
    service.at_request = service.hold();
    service.start();
    auto peer = std::make_unique<Peer>(service.address());
    peer->send("ping\n");
    Served *session = service.requests.take();
    SUBCASE("which was the reply") {
        CHECK(session->reply("pong\n") == 0);
        CHECK(service.ends.take() == success(0));
    }
    SUBCASE("which was shutdown") {
        CHECK(net.comm.shutdown(session) == 0);
    }
    SUBCASE("which was the peer's") {
        peer->reset();
        wire::until([&] { return !session->target()->has_idle_conn(); });
    }
    Push late(session, "late\n");
    CHECK(push(net.comm, "late\n", session) == -1);
    CHECK(errno == ENOENT);
    CHECK(net.comm.push(&late) == -1);
    CHECK(errno == ENOENT);
    net.on_loop([&] {
        CHECK(push(net.comm, "late\n", session) == -1);
        CHECK(errno == ENOENT);
        CHECK(net.comm.push(&late) == -1);
        CHECK(errno == ENOENT);
    });
    CHECK(late.ends.size() == 0);
    delete session;
}

TEST_CASE("what was pushed before shutdown still goes out") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    CHECK(push(net.comm, large, session) == static_cast<int>(large.size()));
    net.settle();
    SUBCASE("by shutdown()") {
        CHECK(net.comm.shutdown(session) == 0);
        delete session;
    }
    SUBCASE("by deleting the session") {
        delete session;
    }
    CHECK((peer.rest() == large));
    CHECK_FALSE(peer.was_reset());
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a CommPush completes on the loop when the kernel has its last byte") {
    size_t handlers = 0;
    SUBCASE("without handlers") {}
    SUBCASE("beside handlers") {
        handlers = 1;
    }
    Net net(1, handlers);
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();

    Push small(session, "small\n");
    net.on_loop([&] {
        CHECK(net.comm.push(&small) == 0);
        CHECK(small.ends.size() == 0); // never inside push()
    });
    CHECK(small.ends.take() == pushed);
    CHECK(peer.line() == "small\n");

    Push slow(session, large);
    CHECK(net.comm.push(&slow) == 0);
    net.settle();
    CHECK(slow.ends.size() == 0);
    CHECK((peer.line() == large));
    CHECK(slow.ends.take() == pushed);
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("pushes of both kinds and replies go out in the order they were given") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    std::string expected;
    std::vector<std::unique_ptr<Push>> all;
    for (int turn = 0; turn < 3; turn++) {
        peer.send("ping\n");
        Served *session = service.requests.take();
        for (int i = 0; i < 3; i++) {
            std::string name = std::to_string(turn) + std::to_string(i);
            all.push_back(std::make_unique<Push>(session, "queued " + name + chunk));
            CHECK(net.comm.push(all.back().get()) == 0);
            CHECK(push(net.comm, "bytes " + name + "\n", session) > 0);
            expected += "queued " + name + chunk + "bytes " + name + "\n";
        }
        CHECK(session->reply("pong\n") == 0);
        expected += "pong\n";
        CHECK((peer.read(expected.size()) == expected));
        expected.clear();
        CHECK(service.ends.take() == success(turn));
    }
    for (auto &each : all)
        CHECK(each->ends.take() == pushed);
}

TEST_CASE("what one callback pushes and replies goes out in that order, at once") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push first(session, "first\n"), third(session, "third\n");
    net.on_loop([&] {
        CHECK(net.comm.push(&first) == 0);
        CHECK(push(net.comm, "second\n", session) > 0);
        CHECK(net.comm.push(&third) == 0);
        CHECK(session->reply("pong\n") == 0);
        CHECK(first.ends.size() + third.ends.size() == 0); // their completions come later all the same
    });
    CHECK(peer.read(std::string_view("first\nsecond\nthird\npong\n").size()) ==
          "first\nsecond\nthird\npong\n");
    CHECK(first.ends.take() == pushed);
    CHECK(third.ends.take() == pushed);
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a CommPush outlives the session it was given on") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push slow(session, large);
    CHECK(net.comm.push(&slow) == 0);
    CHECK(session->reply("pong\n") == 0);
    CHECK((peer.line() == large));
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
    CHECK(slow.ends.take() == pushed);
}

TEST_CASE("above the high-water mark a CommPush is refused with EAGAIN") {
    Net net;
    net.comm.set_push_high_water(100000);
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push first(session, large), second(session, "second\n");
    CHECK(net.comm.push(&first) == 0);
    net.settle();
    CHECK(net.comm.push(&second) == -1);
    CHECK(errno == EAGAIN);
    CHECK(push(net.comm, "bytes\n", session) == -1);
    CHECK(errno == EAGAIN);
    CHECK((peer.line() == large));
    CHECK(first.ends.take() == pushed);
    CHECK(net.comm.push(&second) == 0);
    CHECK(peer.line() == "second\n");
    CHECK(second.ends.take() == pushed);
    CHECK(session->reply("pong\n") == 0);
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a CommPush whose peer goes away ends with an error, once") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push first(session, large), second(session, "second\n");
    CHECK(net.comm.push(&first) == 0);
    CHECK(net.comm.push(&second) == 0);
    net.settle();
    CHECK(peer.read(1000).size() == 1000);
    peer.reset();
    for (Push *each : {&first, &second}) {
        Pushed end = each->ends.take();
        CHECK(end.state == CS_STATE_ERROR);
        CHECK(end.error != 0);
        CHECK(end.on_loop);
    }
    CHECK(net.comm.reply(session) == -1);
    CHECK(errno == ENOENT);
    delete session;
    service.stop();
    CHECK(first.ends.size() + second.ends.size() == 0);
}

TEST_CASE("a CommPush without a message fails alone; one that cannot be encoded ends the connection") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push none(session, "");
    none.give_out = nullptr;
    none.give_errno = ENOMSG;
    CHECK(net.comm.push(&none) == 0);
    CHECK(none.ends.take() == Pushed{CS_STATE_ERROR, ENOMSG, true});
    Push bad(session, "");
    bad.out.script = [](struct iovec *, int) {
        errno = ENODATA;
        return -1;
    };
    CHECK(net.comm.push(&bad) == 0);
    CHECK(bad.ends.take() == Pushed{CS_STATE_ERROR, ENODATA, true});
    CHECK(peer.rest().empty());
    delete session;
}

TEST_CASE("an empty CommPush completes") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push empty(session, "");
    CHECK(net.comm.push(&empty) == 0);
    CHECK(empty.ends.take() == pushed);
    CHECK(session->reply("pong\n") == 0);
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a CommPush that waits at deinit ends, and later ones are refused with ESHUTDOWN") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = service.requests.take();
    Push slow(session, large), late(session, "late\n");
    CHECK(net.comm.push(&slow) == 0);
    net.settle();
    net.comm.deinit();
    CHECK(slow.ends.take() == Pushed{CS_STATE_STOPPED, 0, true});
    CHECK(net.comm.push(&late) == -1);
    CHECK(errno == ESHUTDOWN);
    delete session;
    service.stop();
}

TEST_CASE("a client pushes from its first received byte until it is done") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    int in_append = 0, in_handle = 0, error = 0;
    client.in.script = [&](const char *bytes, size_t *size) {
        if (client.in.calls == 1)
            in_append = push(net.comm, "in append\n", &client);
        return client.in.take(bytes, size);
    };
    client.at_end = [&](Client *self, const End &) {
        in_handle = push(net.comm, "late\n", self);
        error = errno;
    };
    net.on_loop([&] {
        CHECK(push(net.comm, "early\n", &client) == -1);
        CHECK(errno == ENOENT);
        CHECK(net.comm.request(&client, &target) == 0);
        CHECK(push(net.comm, "early\n", &client) == -1);
        CHECK(errno == ENOENT);
    });
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    net.on_loop([&] {
        CHECK(push(net.comm, "early\n", &client) == -1);
        CHECK(errno == ENOENT);
    });
    CHECK(push(net.comm, "early, from a thread\n", &client) == -1);
    CHECK(errno == ENOENT);
    CHECK_FALSE(peer.readable_now());
    peer.send("po");
    CHECK(peer.line() == "in append\n");
    CHECK(push(net.comm, "from a thread\n", &client) == 14);
    CHECK(peer.line() == "from a thread\n");
    peer.send("ng\n");
    CHECK(client.end() == success(0));
    CHECK(in_append == 10);
    CHECK(in_handle == -1);
    CHECK(error == ENOENT);
    CHECK(push(net.comm, "late, from a thread\n", &client) == -1);
    CHECK(errno == ENOENT);
    net.settle();
    CHECK_FALSE(peer.readable_now());
    CHECK(target.has_idle_conn());
}

TEST_CASE("pushes from two threads race the end of the connection: nothing is lost or done twice") {
    Net net(2);
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    for (int i = 0; i < 100; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        Served *session = service.requests.take();
        std::vector<std::unique_ptr<Push>> given[2];
        std::vector<std::thread> threads;
        for (auto &mine : given) {
            threads.emplace_back([&] {
                for (int n = 0; n < 20; n++) {
                    push(net.comm, "bytes\n", session);
                    auto each = std::make_unique<Push>(session, "queued\n");
                    if (net.comm.push(each.get()) == 0)
                        mine.push_back(std::move(each));
                }
            });
        }
        bool ends_well = i % 2 == 0;
        if (!ends_well)
            peer.reset();
        for (std::thread &thread : threads)
            thread.join();
        if (ends_well) {
            CHECK(session->reply("pong\n") == 0);
            size_t size = 2 * 20 * (6 + 7) + 5;
            CHECK(peer.read(size).size() == size);
            CHECK(service.ends.take() == success(0));
        } else {
            wire::until([&] { return !session->target()->has_idle_conn(); });
            delete session;
        }
        for (auto &mine : given) {
            for (auto &each : mine) {
                Pushed end = each->ends.take();
                CHECK((end.state == CS_STATE_SUCCESS || end.state == CS_STATE_ERROR));
                if (ends_well)
                    CHECK(end == pushed);
            }
        }
        for (auto &mine : given)
            for (auto &each : mine)
                CHECK(each->ends.size() == 0);
    }
    service.stop();
}
