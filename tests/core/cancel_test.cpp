// Cancelling by ticket, in every stage of a session, from every place: 0 means that handle() runs
// with ECANCELED exactly once, ENOENT that nothing was touched.

#include "CommScheduler.h"
#include "scripted.h"

#include <algorithm>
#include <latch>
#include <memory>
#include <thread>

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

const std::string huge(size_t{8} << 20, 'x');
const End cancelled = {CS_STATE_ERROR, ECANCELED, CC_CANCEL, 0};

bool refused(int result) {
    return result == -1 && errno == ENOENT;
}

// Runs `work` on a loop of a Communicator, some time soon.
struct Task : CommNode {
    explicit Task(std::function<void()> what) : work(std::move(what)) {
        run = [](CommNode *self) { static_cast<Task *>(self)->work(); };
    }
    std::function<void()> work;
};

} // namespace

TEST_CASE("a ticket is refused before its submission, after its completion and for ever") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    CHECK(refused(net.comm.cancel(CommTicket{})));
    CHECK(refused(net.comm.cancel(CommTicket{1000000, 1})));
    CommTicket ticket;
    {
        Client client;
        ticket = client.ticket();
        CHECK(ticket.slot != 0);
        CHECK(refused(net.comm.cancel(ticket)));
        bool refused_in_handle = false;
        client.at_end = [&](Client *, const End &) { refused_in_handle = refused(net.comm.cancel(ticket)); };
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(client.end() == success(0));
        CHECK(refused_in_handle);
        CHECK(refused(net.comm.cancel(ticket)));
    }
    CHECK(refused(net.comm.cancel(ticket)));
    net.comm.deinit();
    CHECK(refused(net.comm.cancel(ticket)));
    service.stop();
}

TEST_CASE("a ticket names one submission, not the next one, nor the next session in its place") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    std::vector<CommTicket> old;
    for (int round = 0; round < 5; round++) {
        Client client;
        for (int i = 0; i < 3; i++) {
            CommTicket mine = client.ticket();
            bool all_refused = true;
            client.in.script = [&](const char *bytes, size_t *size) {
                for (CommTicket ticket : old)
                    all_refused = all_refused && refused(net.comm.cancel(ticket));
                return client.in.take(bytes, size);
            };
            REQUIRE(net.comm.request(&client, &target) == 0);
            CHECK(client.end().state == CS_STATE_SUCCESS);
            CHECK(all_refused);
            old.push_back(mine);
        }
    }
}

TEST_CASE("a client session is cancelled while it connects") {
    Net net;
    wire::Swamp swamp;
    Target target(swamp.address());
    Client client;
    CommTicket ticket = client.ticket();
    REQUIRE(net.comm.request(&client, &target) == 0);
    net.settle();
    SUBCASE("from another thread") {
        CHECK(net.comm.cancel(ticket) == 0);
    }
    SUBCASE("on the loop") {
        net.on_loop([&] {
            CHECK(net.comm.cancel(ticket) == 0);
            CHECK(client.ends.size() == 0); // not inside cancel()
        });
    }
    CHECK(client.end() == cancelled);
    CHECK(refused(net.comm.cancel(ticket)));
    CHECK(client.outs == 0);
    CHECK(target.released == 1);
}

TEST_CASE("a client session is cancelled while it sends, awaits or receives") {
    std::string request = "ping\n", answer;
    SUBCASE("sends") {
        request = huge;
    }
    SUBCASE("awaits") {}
    SUBCASE("receives") {
        answer = "po";
    }
    for (bool by_session : {false, true}) {
        CAPTURE(by_session);
        Net net;
        Listener listener(wire::Address::loopback(), 16, 4096);
        Target target(listener.address());
        target.send_buffer = 4096;
        Client client(request);
        client.may_retry = true;
        CommTicket ticket = by_session ? CommTicket{} : client.ticket();
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.read(5).size() == 5);
        peer.send(answer);
        net.settle();
        if (by_session) {
            net.on_loop([&] {
                CHECK(net.comm.cancel(&client) == 0);
                CHECK(refused(net.comm.cancel(&client)));
            });
        } else {
            CHECK(net.comm.cancel(ticket) == 0);
        }
        CHECK(client.end() == cancelled);
        peer.rest(); // it is closed
        CHECK(target.released == 1);
        CHECK_FALSE(target.has_idle_conn());
        net.settle();
        CHECK(client.ends.size() == 0);
        CHECK_FALSE(listener.pending());
    }
}

TEST_CASE("the second cancel of one submission is refused") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    CommTicket ticket = client.ticket();
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(net.comm.cancel(ticket) == 0);
    CHECK(refused(net.comm.cancel(ticket)));
    const End end = client.end(); // before seq(), which is the loop's until then
    CHECK(end == End{CS_STATE_ERROR, ECANCELED, CC_CANCEL, client.seq()});
    CHECK(refused(net.comm.cancel(ticket)));
    net.settle();
    CHECK(client.ends.size() == 0);
}

TEST_CASE("a request that the loop has not begun is cancelled without touching the target") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    CommTicket ticket = client.ticket();
    net.block(0);
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(net.comm.cancel(ticket) == 0);
    net.unblock();
    CHECK(client.end() == cancelled);
    CHECK(target.connections->born == 0);
    CHECK(target.released == 1);
}

TEST_CASE("an answer that arrives after the cancel does not undo it") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    CommTicket ticket = client.ticket();
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    net.on_loop([&] {
        CHECK(net.comm.cancel(ticket) == 0);
        peer.send("pong\n");
    });
    CHECK(client.end() == cancelled);
    CHECK(client.ends.size() == 0);
}

TEST_CASE("a service session is cancelled while it receives") {
    Net net;
    Service service(net.comm);
    wire::Inbox<CommTicket> tickets;
    service.at_birth = [&](Served *session) { tickets.put(session->ticket()); };
    service.start();
    Peer peer(service.address());
    peer.send("pi");
    CommTicket ticket = tickets.take();
    wire::until([&] { return net.comm.cancel(ticket) == 0; }); // the session flies from new_session() on
    CHECK(service.ends.take() == cancelled);
    CHECK(peer.rest().empty());
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a service session that has received all is not told to reply any more once it is cancelled") {
    Net net;
    Service service(net.comm);
    service.at_birth = [&](Served *session) {
        session->in.script = [&, session](const char *bytes, size_t *size) {
            int complete = session->in.take(bytes, size);
            if (complete)
                CHECK(net.comm.cancel(session->ticket()) == 0);
            return complete;
        };
    };
    bool told = false;
    service.at_request = [&](Served *) { told = true; };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(service.ends.take() == cancelled);
    CHECK(peer.rest().empty());
    CHECK_FALSE(told);
}

TEST_CASE("a service session that awaits its reply is cancelled as by shutdown") {
    Net net;
    Service service(net.comm);
    wire::Inbox<CommTicket> tickets;
    service.at_request = [&](Served *session) {
        tickets.put(session->ticket());
        service.requests.put(session);
    };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CommTicket ticket = tickets.take();
    Served *session = service.requests.take();
    CHECK(net.comm.cancel(ticket) == 0);
    CHECK(refused(net.comm.cancel(ticket)));
    CHECK(peer.rest().empty());
    CHECK(refused(net.comm.reply(session)));
    delete session;
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a service session whose peer has gone cannot be cancelled any more") {
    Net net;
    Service service(net.comm);
    wire::Inbox<CommTicket> tickets;
    service.at_request = [&](Served *session) {
        tickets.put(session->ticket());
        service.requests.put(session);
    };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CommTicket ticket = tickets.take();
    Served *session = service.requests.take();
    peer.reset();
    while (session->target()->has_idle_conn())
        net.settle();
    CHECK(refused(net.comm.cancel(ticket)));
    CHECK(refused(net.comm.shutdown(session)));
    CHECK(refused(net.comm.cancel(ticket)));
    delete session;
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a reply in flight is cancelled, the connection closes") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.pipeline = 2;
    wire::Inbox<CommTicket> tickets;
    service.at_request = [&](Served *session) {
        tickets.put(session->ticket());
        service.requests.put(session);
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("one\ntwo\n");
    std::vector<Served *> sessions = service.requests.take(2);
    std::vector<CommTicket> ticket = tickets.take(2);
    SUBCASE("while it is written") {
        CHECK(sessions[0]->reply(huge) == 0);
        net.settle();
        CHECK(net.comm.cancel(ticket[0]) == 0);
        CHECK(service.ends.take() == cancelled);
        wire::until([&] { return !sessions[1]->target()->has_idle_conn(); });
        CHECK(refused(net.comm.reply(sessions[1])));
        delete sessions[1];
    }
    SUBCASE("while it waits for one that is written") {
        CHECK(sessions[0]->reply(huge) == 0);
        CHECK(sessions[1]->reply("end\n") == 0);
        net.settle();
        CHECK(net.comm.cancel(ticket[1]) == 0);
        std::vector<End> ends = service.ends.take(2);
        std::sort(ends.begin(), ends.end(), [](const End &a, const End &b) { return a.seq < b.seq; });
        CHECK(ends[0].state == CS_STATE_ERROR);
        CHECK(ends[1] == End{CS_STATE_ERROR, ECANCELED, CC_CANCEL, 1});
    }
    SUBCASE("while it waits for one that was not given yet") {
        SUBCASE("and the loop knows of it") {
            CHECK(sessions[1]->reply("end\n") == 0);
            net.settle();
            CHECK(net.comm.cancel(ticket[1]) == 0);
        }
        SUBCASE("and the loop hears of both at once, the reply first") {
            net.block(0);
            CHECK(sessions[1]->reply("end\n") == 0);
            CHECK(net.comm.cancel(ticket[1]) == 0);
            net.unblock();
        }
        SUBCASE("and the loop hears of both at once, the cancel first") {
            net.block(0);
            CHECK(net.comm.cancel(ticket[1]) == 0);
            CHECK(sessions[1]->reply("end\n") == 0);
            net.unblock();
        }
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ECANCELED, CC_CANCEL, 1});
        wire::until([&] { return !sessions[0]->target()->has_idle_conn(); });
        CHECK(refused(net.comm.reply(sessions[0])));
        delete sessions[0];
    }
    peer.rest();
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.sessions.dead == 2);
}

TEST_CASE("a session at connect is cancelled while nothing was sent to it") {
    Net net;
    Service service(net.comm);
    service.at_connect = true;
    wire::Inbox<CommTicket> tickets;
    service.at_birth = [&](Served *session) { tickets.put(session->ticket()); };
    service.start();
    Peer peer(service.address());
    CommTicket ticket = tickets.take();
    wire::until([&] { return net.comm.cancel(ticket) == 0; });
    CHECK(service.ends.take() == cancelled);
    CHECK(peer.rest().empty());
}

TEST_CASE("a session is cancelled inside handle of another one") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client first, second;
    CommTicket ticket = second.ticket();
    int result = -1;
    first.at_end = [&](Client *, const End &) {
        result = net.comm.cancel(ticket);
        CHECK(second.ends.size() == 0);
    };
    REQUIRE(net.comm.request(&first, &target) == 0);
    Peer to_first = listener.accept();
    REQUIRE(net.comm.request(&second, &target) == 0);
    Peer to_second = listener.accept();
    to_first.send("pong\n");
    CHECK(first.end() == success(0));
    CHECK(second.end() == cancelled);
    CHECK(result == 0);
    to_second.rest();
}

TEST_CASE("a request is cancelled while an idle connection of another loop is on its way to it") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(2, 0) == 0);
    Communicator &comm = scheduler.communicator();
    {
        Listener listener;
        CommSchedTarget target;
        REQUIRE(target.init(listener.address().get(), listener.address().size, -1, -1, 1) == 0);
        CommTarget *got;
        Client first, second;
        Task ask_first([&] { CHECK(scheduler.request(&first, &target, 0, &got) == 0); });
        REQUIRE(comm.loop(0)->post(&ask_first) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        peer.send("pong\n");
        CHECK(first.end() == success(0));

        std::latch blocked(1), go(1);
        Task block([&] {
            blocked.count_down();
            go.wait();
        });
        REQUIRE(comm.loop(0)->post(&block) == 0);
        blocked.wait();
        CommTicket ticket = second.ticket();
        wire::Inbox<int> asked;
        Task ask_second([&] { asked.put(scheduler.request(&second, &target, 0, &got)); });
        REQUIRE(comm.loop(1)->post(&ask_second) == 0);
        CHECK(asked.take() == 0);
        CHECK(comm.cancel(ticket) == 0);
        go.count_down();
        End end = second.end();
        CHECK(end.state == CS_STATE_ERROR);
        CHECK(end.error == ECANCELED);
        CHECK(target.get_cur_load() == 0);
        target.deinit();
    }
    scheduler.deinit();
}

TEST_CASE("a completion that is on its way to a handler thread cannot be cancelled") {
    Net net(1, 1);
    Listener listener;
    Target target(listener.address());
    Client first, second;
    std::latch entered(1), go(1);
    first.at_end = [&](Client *, const End &) {
        entered.count_down();
        go.wait();
    };
    CommTicket ticket = second.ticket();
    REQUIRE(net.comm.request(&first, &target) == 0);
    Peer to_first = listener.accept();
    REQUIRE(net.comm.request(&second, &target) == 0);
    Peer to_second = listener.accept();
    to_first.send("pong\n");
    entered.wait();
    to_second.send("pong\n");
    wire::until([&] { return target.released == 2; });
    net.settle();
    CHECK(refused(net.comm.cancel(ticket)));
    go.count_down();
    CHECK(first.end() == success(0));
    CHECK(second.end() == success(0));
}

TEST_CASE("a stop and a cancel: the one that comes first is reported") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    CommTicket ticket = client.ticket();
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.line();
    std::thread canceller;
    int result = -1;
    canceller = std::thread([&] { result = net.comm.cancel(ticket); });
    net.comm.deinit();
    canceller.join();
    End end = client.end();
    if (result == 0)
        CHECK(end == cancelled);
    else
        CHECK(end == End{CS_STATE_STOPPED, 0, CC_STOP, 0});
    CHECK(client.ends.size() == 0);
}

TEST_CASE("a storm of cancels from two threads: each session ends once, as its cancel said") {
    Net net(2);
    Service service(net.comm);
    service.start();
    Target target(service.address());
    constexpr int n = 3000;
    std::vector<std::unique_ptr<Client>> clients;
    std::vector<CommTicket> tickets;
    for (int i = 0; i < n; i++) {
        clients.push_back(std::make_unique<Client>());
        tickets.push_back(clients.back()->ticket());
    }
    std::vector<std::atomic<int>> wins(n);
    std::atomic<int> submitted{0};
    auto storm = [&] {
        for (int i = 0; i < n; i++) {
            while (submitted.load() <= i)
                std::this_thread::yield();
            if (net.comm.cancel(tickets[static_cast<size_t>(i)]) == 0)
                wins[static_cast<size_t>(i)]++;
        }
    };
    std::thread one(storm), two(storm);
    for (int i = 0; i < n; i++) {
        CHECK(net.comm.request(clients[static_cast<size_t>(i)].get(), &target) == 0);
        submitted++;
        if (i % 8 == 0) // some get far enough to be answered
            clients[static_cast<size_t>(i)]->ends.put(clients[static_cast<size_t>(i)]->ends.take());
    }
    one.join();
    two.join();
    for (int i = 0; i < n; i++) {
        End end = clients[static_cast<size_t>(i)]->end();
        int won = wins[static_cast<size_t>(i)];
        CHECK(won <= 1);
        CHECK(end.state == (won ? CS_STATE_ERROR : CS_STATE_SUCCESS));
        CHECK(end.error == (won ? ECANCELED : 0));
    }
    net.settle(0);
    net.settle(1);
    for (auto &client : clients)
        CHECK(client->ends.size() == 0);
    CHECK(target.released == n);
}

TEST_CASE("a storm of cancels meets replies from another thread: whoever is told 0 is right") {
    Net net(2);
    Service service(net.comm);
    struct Case {
        Served *session;
        CommTicket ticket;
    };
    wire::Inbox<Case> cases;
    service.at_request = [&](Served *session) { cases.put({session, session->ticket()}); };
    service.start();
    int replied = 0, cancelled_first = 0;
    for (int i = 0; i < 500; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        Case each = cases.take();
        std::latch start(2);
        int cancel = -2;
        std::thread canceller([&] {
            start.arrive_and_wait();
            cancel = net.comm.cancel(each.ticket);
        });
        start.arrive_and_wait();
        int reply = each.session->reply("pong\n");
        if (reply < 0) {
            canceller.join();
            CHECK(cancel == 0);
            CHECK(service.ends.size() == 0);
            delete each.session;
            cancelled_first++;
        } else {
            End end = service.ends.take();
            canceller.join();
            CHECK(end.state == (cancel == 0 ? CS_STATE_ERROR : CS_STATE_SUCCESS));
            CHECK(end.error == (cancel == 0 ? ECANCELED : 0));
            replied++;
        }
    }
    service.stop();
    CHECK(replied + cancelled_first == 500);
    CHECK(service.ends.size() == 0);
    CHECK(service.sessions.dead == 500);
}

TEST_CASE("cancels race the deletion of the sessions they name") {
    Net net(2);
    Service service(net.comm);
    struct Case {
        Served *session;
        CommTicket ticket;
    };
    wire::Inbox<Case> cases;
    service.at_request = [&](Served *session) { cases.put({session, session->ticket()}); };
    service.start();
    for (int i = 0; i < 500; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        Case each = cases.take();
        std::latch start(2);
        std::thread canceller([&] {
            start.arrive_and_wait();
            net.comm.cancel(each.ticket);
        });
        start.arrive_and_wait();
        delete each.session;
        canceller.join();
        CHECK(peer.rest().empty());
    }
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.connections->dead == 500);
}
