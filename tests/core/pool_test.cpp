// The idle connections of a target: which one is taken, when it is there, how long it lives, and
// what happens when it has gone stale.

#include "CommScheduler.h"
#include "scripted.h"

#include <memory>
#include <thread>

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

// One exchange over `listener`, which leaves the connection idle. Returns the other end.
Peer exchange(Net &net, Target &target, Listener &listener, Client &client) {
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == client.out.text);
    peer.send("pong\n");
    CHECK(client.end() == success(0));
    return peer;
}

// A limited target of a CommScheduler whose connections are counted.
class Limited : public CommSchedTarget {
public:
    std::shared_ptr<Census> connections = std::make_shared<Census>();

private:
    CommConnection *new_connection(int) override { return new Conn(connections); }
};

} // namespace

TEST_CASE("the connection that became idle last is taken first") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client one("one\n"), two("two\n");
    REQUIRE(net.comm.request(&one, &target) == 0);
    Peer to_one = listener.accept();
    REQUIRE(net.comm.request(&two, &target) == 0);
    Peer to_two = listener.accept();
    bool two_is_last = true;
    SUBCASE("the second") {}
    SUBCASE("the first") {
        two_is_last = false;
    }
    (two_is_last ? to_one : to_two).send("pong\n");
    CHECK((two_is_last ? one : two).end() == success(0));
    (two_is_last ? to_two : to_one).send("pong\n");
    CHECK((two_is_last ? two : one).end() == success(0));

    Client three, four;
    REQUIRE(net.comm.request(&three, &target) == 0);
    REQUIRE(net.comm.request(&four, &target) == 0);
    net.settle();
    CHECK(three.connection() == (two_is_last ? two : one).connection());
    CHECK(four.connection() == (two_is_last ? one : two).connection());
    to_one.send("pong\n");
    to_two.send("pong\n");
    CHECK(three.end() == success(1));
    CHECK(four.end() == success(1));
    CHECK(target.connections->born == 2);
}

TEST_CASE("seq begins at 0 again on every new connection") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    Client client;
    for (long long round = 0; round < 3; round++) {
        for (long long seq = 0; seq < 3; seq++) {
            client.timeouts.keep_alive = seq < 2 ? -1 : 0;
            REQUIRE(net.comm.request(&client, &target) == 0);
            CHECK(client.end() == success(seq));
        }
    }
    CHECK(target.connections->born == 3);
}

TEST_CASE("the connection is in the pool and its slot is released before handle") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    Client first, second;
    bool idle = false;
    int released = 0;
    first.at_end = [&](Client *, const End &) {
        idle = target.has_idle_conn();
        released = target.released;
        CHECK(net.comm.request(&second, &target) == 0);
        CHECK_FALSE(target.has_idle_conn());
    };
    REQUIRE(net.comm.request(&first, &target) == 0);
    CHECK(first.end() == success(0));
    CHECK(second.end() == success(1));
    CHECK(idle);
    CHECK(released == 1);
    CHECK(target.connections->born == 1);
}

TEST_CASE("a session that sends itself again from handle finds the same connection") {
    size_t loops = 1, handlers = 0;
    SUBCASE("on the loop") {}
    SUBCASE("on one of two loops") {
        loops = 2;
    }
    SUBCASE("on a handler thread") {
        handlers = 1;
    }
    SUBCASE("on a handler thread beside two loops") {
        loops = 2;
        handlers = 1;
    }
    Net net(loops, handlers);
    Service service(net.comm);
    service.start();
    Target target(service.address());
    Client client;
    int left = 9;
    client.at_end = [&](Client *self, const End &) {
        if (left-- > 0)
            CHECK(net.comm.request(self, &target) == 0);
    };
    net.on(loops - 1, [&] { CHECK(net.comm.request(&client, &target) == 0); });
    for (long long seq = 0; seq < 10; seq++)
        CHECK(client.end() == success(seq));
    CHECK(target.connections->born == 1);
    CHECK(target.released == 10);
}

TEST_CASE("a connection that closed while idle is not used again") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    Peer peer = exchange(net, target, listener, client);
    CHECK(target.has_idle_conn());
    SUBCASE("by FIN") {
        peer.close();
    }
    SUBCASE("by RST") {
        peer.reset();
    }
    wire::until([&] { return !target.has_idle_conn(); });
    exchange(net, target, listener, client); // checks that seq is 0
    CHECK(target.connections->born == 2);
    wire::until([&] { return target.connections->dead == 1; });
}

TEST_CASE("a stale connection fails the request, unless it may be retried: then a fresh one is used") {
    wire::Address at = wire::Address::loopback();
    SUBCASE("TCP, where reading tells") {}
    SUBCASE("AF_UNIX, where writing tells") {
        at = wire::Address::local();
    }
    for (bool may_retry : {false, true}) {
        CAPTURE(may_retry);
        Net net;
        Listener listener(at);
        Target target(listener.address());
        Client first, second("again\n");
        second.may_retry = may_retry;
        REQUIRE(net.comm.request(&first, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        first.at_end = [&](Client *, const End &) {
            peer.close(); // the loop cannot have seen this yet
            CHECK(net.comm.request(&second, &target) == 0);
        };
        peer.send("pong\n");
        CHECK(first.end() == success(0));
        if (may_retry) {
            Peer other = listener.accept();
            CHECK(other.line() == "again\n");
            other.send("pong\n");
            CHECK(second.end() == success(0));
            CHECK(second.outs == 2);
            CHECK(target.connections->born == 2);
        } else {
            End end = second.end();
            CHECK(end.state == CS_STATE_ERROR);
            CHECK((end.error == ECONNRESET || end.error == EPIPE));
            CHECK(end.seq == 1);
            CHECK(second.outs == 1);
        }
        CHECK(target.released == 2);
        CHECK(net.comm.loop(0)->counters().stale_hits == 1);
    }
}

TEST_CASE("a request is not retried when something was answered, or on a fresh connection") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    client.may_retry = true;
    SUBCASE("a byte of the answer had come") {
        Peer peer = exchange(net, target, listener, client);
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(peer.line() == "ping\n");
        peer.send("p");
        peer.close();
        CHECK(client.end() == End{CS_STATE_ERROR, ECONNRESET, CC_EOF, 1});
        CHECK(client.outs == 2);
    }
    SUBCASE("the connection was new") {
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        peer.close();
        CHECK(client.end() == End{CS_STATE_ERROR, ECONNRESET, CC_EOF, 0});
        CHECK(client.outs == 1);
    }
    CHECK_FALSE(listener.pending());
}

TEST_CASE("a retry that cannot connect reports that") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client first, second;
    second.may_retry = true;
    REQUIRE(net.comm.request(&first, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    first.at_end = [&](Client *, const End &) {
        peer.close();
        listener.close();
        CHECK(net.comm.request(&second, &target) == 0);
    };
    peer.send("pong\n");
    CHECK(first.end() == success(0));
    CHECK(second.end() == End{CS_STATE_ERROR, ECONNREFUSED, CC_CONNECT, 0});
    CHECK(second.outs == 1);
    CHECK(target.released == 2);
}

TEST_CASE("close_idle closes what is idle and nothing else") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client idle, busy;
    REQUIRE(net.comm.request(&idle, &target) == 0);
    Peer to_idle = listener.accept();
    REQUIRE(net.comm.request(&busy, &target) == 0);
    Peer to_busy = listener.accept();
    to_idle.send("pong\n");
    CHECK(idle.end() == success(0));
    SUBCASE("from another thread") {
        target.close_idle();
    }
    SUBCASE("on the loop") {
        net.on_loop([&] { target.close_idle(); });
    }
    CHECK(to_idle.rest() == "ping\n");
    wire::until([&] { return !target.has_idle_conn(); });
    to_busy.send("pong\n");
    CHECK(busy.end() == success(0));
    CHECK(target.has_idle_conn());
    target.close_idle();
    CHECK(to_busy.rest() == "ping\n");
}

TEST_CASE("idle connections close when their target goes, whatever the order of deinit") {
    Net net;
    Listener listener;
    Client client;
    auto target = std::make_unique<Target>(listener.address());
    std::shared_ptr<Census> census = target->connections;
    Peer peer = exchange(net, *target, listener, client);
    SUBCASE("target first") {
        target.reset();
        CHECK(peer.rest().empty());
    }
    SUBCASE("target first, on the loop") {
        net.on_loop([&] { target.reset(); });
        CHECK(peer.rest().empty());
    }
    SUBCASE("Communicator first") {
        net.comm.deinit();
        CHECK(peer.rest().empty());
        CHECK_FALSE(target->has_idle_conn());
        target.reset();
    }
    net.comm.deinit();
    CHECK(census->dead == 0); // its session still pins it
}

TEST_CASE("a target serves one Communicator after another") {
    Communicator comm;
    Listener listener;
    Target target(listener.address());
    for (size_t loops : {1u, 3u, 2u, 4u, 1u}) {
        REQUIRE(comm.init(loops, 0) == 0);
        for (size_t i = 0; i < loops; i++) {
            Client client;
            wire::Inbox<int> result;
            struct Node : CommNode {
                std::function<void()> work;
            } node;
            node.work = [&] { result.put(comm.request(&client, &target)); };
            node.run = [](CommNode *self) { static_cast<Node *>(self)->work(); };
            REQUIRE(comm.loop(i)->post(&node) == 0);
            CHECK(result.take() == 0);
            Peer peer = listener.accept();
            CHECK(peer.line() == "ping\n");
            peer.send("pong\n");
            CHECK(client.end() == success(0));
            target.close_idle();
            CHECK(peer.rest().empty());
        }
        comm.deinit();
    }
}

TEST_CASE("the connection object of a session lives as long as the session, and dies once") {
    Net net;
    Listener listener;
    Target target(listener.address());
    auto client = std::make_unique<Client>();
    {
        Peer peer = exchange(net, target, listener, *client);
    }
    wire::until([&] { return !target.has_idle_conn(); });
    net.settle();
    CHECK(target.connections->dead == 0);
    CHECK(client->connection()->number == 0);
    SUBCASE("it goes with the session") {
        client.reset();
    }
    SUBCASE("or with its next submission") {
        exchange(net, target, listener, *client);
    }
    CHECK(target.connections->deaths.take() == 0);
    client.reset();
    net.comm.deinit();
    CHECK(target.connections->dead == target.connections->born);
}

TEST_CASE("a failure to make a connection is returned on the loop and handled elsewhere") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    SUBCASE("create_connect_fd") {
        target.connect_errno = ENOBUFS;
    }
    SUBCASE("new_connection") {
        target.new_connection_errno = ENOBUFS;
    }
    Client client;
    net.on_loop([&] {
        CHECK(net.comm.request(&client, &target) == -1);
        CHECK(errno == ENOBUFS);
        CHECK(client.seq() == 0);
        CHECK(client.connection() == nullptr);
    });
    CHECK(target.released == 0);
    REQUIRE(net.comm.request(&client, &target) == 0);
    End end = client.end();
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == ENOBUFS);
    CHECK(target.released == 1);
    CHECK(client.ends.size() == 0);
    target.connect_errno = target.new_connection_errno = 0;
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(0));
}

TEST_CASE("requests from many threads are all answered") {
    size_t handlers = 0;
    SUBCASE("without handlers") {}
    SUBCASE("with handlers") {
        handlers = 2;
    }
    Net net(2, handlers);
    Service service(net.comm);
    service.start();
    Target target(service.address());
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
        threads.emplace_back([&] {
            Client client;
            for (int n = 0; n < 250; n++) {
                client.timeouts.keep_alive = n % 10 == 0 ? 0 : -1;
                CHECK(net.comm.request(&client, &target) == 0);
                CHECK(client.end().state == CS_STATE_SUCCESS);
                CHECK(client.answer() == "ping\n");
            }
        });
    }
    for (std::thread &thread : threads)
        thread.join();
    CHECK(target.released == 1000);
}

TEST_CASE("what is in flight at deinit ends as stopped, and nothing is taken afterwards") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client waiting, connecting, late;
    REQUIRE(net.comm.request(&waiting, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    int result = 0, error = 0;
    waiting.at_end = [&](Client *, const End &) {
        result = net.comm.request(&late, &target);
        error = errno;
    };
    net.on_loop([&] { net.comm.request(&connecting, &target); });
    net.comm.deinit();
    CHECK(waiting.end() == End{CS_STATE_STOPPED, 0, CC_STOP, 0});
    CHECK(connecting.end() == End{CS_STATE_STOPPED, 0, CC_STOP, 0});
    CHECK(result == -1);
    CHECK(error == ESHUTDOWN);
    CHECK(net.comm.request(&late, &target) == -1);
    CHECK(errno == ESHUTDOWN);
    CHECK(late.ends.size() == 0);
    CHECK(target.released == 2);
}

TEST_CASE("at the limit of sockets an idle connection moves to the loop that asks, and goes on counting") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(2, 0) == 0);
    Communicator &comm = scheduler.communicator();
    {
        Service service(comm);
        service.start();
        Limited target;
        REQUIRE(target.init(service.address().get(), service.address().size, -1, -1, 1) == 0);
        for (long long seq = 0; seq < 6; seq++) {
            Client client;
            struct Node : CommNode {
                std::function<void()> work;
            } node;
            node.work = [&] {
                CommTarget *got = nullptr;
                CHECK(scheduler.request(&client, &target, 0, &got) == 0);
                CHECK(got == &target);
            };
            node.run = [](CommNode *self) { static_cast<Node *>(self)->work(); };
            CommLoop *where = nullptr;
            client.at_end = [&](Client *, const End &) { where = CommLoop::current(); };
            REQUIRE(comm.loop(static_cast<size_t>(seq % 2))->post(&node) == 0);
            CHECK(client.end() == success(seq));
            CHECK(where == comm.loop(static_cast<size_t>(seq % 2)));
            CHECK(target.get_cur_load() == 0);
        }
        CHECK(target.connections->born == 1);
        CHECK(comm.loop(0)->counters().migrations + comm.loop(1)->counters().migrations == 5);
        target.deinit();
    }
    scheduler.deinit();
}

TEST_CASE("connections that move between loops under load answer every request") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(2, 0) == 0);
    Communicator &comm = scheduler.communicator();
    {
        Service service(comm);
        service.start();
        Limited target;
        REQUIRE(target.init(service.address().get(), service.address().size, -1, -1, 2) == 0);
        std::atomic<int> answered{0}, failed{0};
        // On each loop, one exchange after the other; when the target is full, another try later.
        struct Chain : CommNode {
            CommScheduler *scheduler;
            Limited *target;
            CommLoop *loop;
            Client client;
            int left = 500;
            std::atomic<int> *answered, *failed;
            wire::Inbox<bool> done;

            void next() {
                CommTarget *got;
                if (left == 0)
                    done.put(true);
                else if (scheduler->request(&client, target, 0, &got) < 0)
                    loop->post(this);
            }
        };
        std::vector<std::unique_ptr<Chain>> chains;
        for (size_t i = 0; i < 4; i++) {
            auto chain = std::make_unique<Chain>();
            Chain *self = chain.get();
            self->scheduler = &scheduler;
            self->target = &target;
            self->loop = comm.loop(i % 2);
            self->answered = &answered;
            self->failed = &failed;
            self->run = [](CommNode *node) { static_cast<Chain *>(node)->next(); };
            self->client.at_end = [self](Client *, const End &end) {
                (end.state == CS_STATE_SUCCESS ? *self->answered : *self->failed)++;
                self->left--;
                self->loop->post(self);
            };
            chains.push_back(std::move(chain));
        }
        for (auto &chain : chains)
            REQUIRE(chain->loop->post(chain.get()) == 0);
        for (auto &chain : chains)
            chain->done.take();
        CHECK(answered == 2000);
        CHECK(failed == 0);
        CHECK(target.get_cur_load() == 0);
        target.deinit();
    }
    scheduler.deinit();
}

TEST_CASE("deinit() while an idle connection is on its way to another loop ends that request as stopped") {
    struct Node : CommNode {
        std::function<void()> work;
        wire::Inbox<bool> done;
        explicit Node(std::function<void()> what) : work(std::move(what)) {
            run = [](CommNode *self) {
                auto *node = static_cast<Node *>(self);
                node->work();
                node->done.put(true);
            };
        }
    };
    bool borrower_has_ended = false;
    SUBCASE("the one that asked has ended before the other looks") {
        borrower_has_ended = true;
    }
    SUBCASE("the one that asked stops while it comes") {}
    CommScheduler scheduler;
    REQUIRE(scheduler.init(2, 0) == 0);
    Communicator &comm = scheduler.communicator();
    Listener listener;
    Limited target;
    REQUIRE(target.init(listener.address().get(), listener.address().size, -1, -1, 1) == 0);
    CommTarget *got = nullptr;
    Client first, second;
    Node ask_first([&] { CHECK(scheduler.request(&first, &target, 0, &got) == 0); });
    REQUIRE(comm.loop(0)->post(&ask_first) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    peer.send("pong\n");
    CHECK(first.end() == success(0));

    wire::Inbox<bool> entered[2], open[2];
    auto wait_at = [&](size_t loop) {
        entered[loop].put(true);
        open[loop].take();
    };
    Node block_first([&] { wait_at(0); }), block_second([&] { wait_at(1); });
    REQUIRE(comm.loop(0)->post(&block_first) == 0);
    entered[0].take();
    Node ask_second([&] { CHECK(scheduler.request(&second, &target, 0, &got) == 0); });
    REQUIRE(comm.loop(1)->post(&ask_second) == 0);
    ask_second.done.take();
    if (!borrower_has_ended) {
        REQUIRE(comm.loop(1)->post(&block_second) == 0);
        entered[1].take();
    }
    struct Probe : SleepSession { // refused by the core once it stops, by itself before
        int duration(struct timespec *) override { return errno = EAGAIN, -1; }
        void handle(int, int) override {}
    } probe;
    std::thread stop([&] { scheduler.deinit(); });
    wire::until([&] { return scheduler.sleep(&probe) < 0 && errno == ESHUTDOWN; });
    std::vector<std::unique_ptr<Node>> nodes;
    if (borrower_has_ended) {
        wire::until([&] {
            nodes.push_back(std::make_unique<Node>([] {}));
            return comm.loop(1)->post(nodes.back().get()) < 0;
        });
    }
    open[0].put(true);
    open[1].put(true);
    stop.join();
    CHECK(second.end() == End{CS_STATE_STOPPED, 0, CC_STOP, 0});
    CHECK(second.ends.size() == 0);
    CHECK(target.get_cur_load() == 0);
}
