#include "net.hpp"

using namespace net;
using parley::acceptor;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::runtime;
using parley::task;

namespace {

// The server of the design document.
task<> accept_and_echo(acceptor<lines> &door) {
    co_await parley::with_scope([&](parley::scope &peers) -> task<> {
        while (auto peer = co_await door.accept())
            peers.spawn(echo<lines>(std::move(*peer)));
    });
}

} // namespace

TEST_CASE("an acceptor gives out connections, and their tasks echo") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    background server(rt, [](inbox<endpoint> &at) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        co_await accept_and_echo(door);
    }(listening));

    endpoint where = listening.take();
    CHECK(where.port() != 0);
    raw_peer one(where), two(where);
    two.send("second\n");
    one.send("first\nagain\n");
    CHECK(two.recv_line() == "second");
    CHECK(one.recv_line() == "first");
    CHECK(one.recv_line() == "again");
    rt.stop();
}

TEST_CASE("a connection knows its peer and its own address") {
    for (const char *host : {"127.0.0.1", "0.0.0.0", "::1"}) {
        runtime rt(with_loops(1));
        inbox<endpoint> at, seen;
        background server(rt,
                          [](std::string where, inbox<endpoint> &out, inbox<endpoint> &addresses) -> task<> {
                              acceptor<lines> door{endpoint{where, 0}};
                              out.put(door.local_endpoint().value());
                              auto peer = co_await door.accept();
                              addresses.put(peer->peer());
                              addresses.put(peer->local());
                          }(host, at, seen));

        endpoint where = at.take();
        endpoint target = where.host() == "0.0.0.0" ? endpoint("127.0.0.1", where.port()) : where;
        raw_peer client(target);
        CHECK(seen.take() == client.local());
        CHECK(seen.take() == target);
    }
}

TEST_CASE("a port in use is an error of accept, with stage and address, each time it is asked") {
    echo_server<lines> other;
    auto refused = other.rt.sync_wait([](endpoint where) -> task<parley::error> {
        acceptor<lines> door{where};
        auto first = co_await door.accept();
        CHECK(!first);
        auto local = door.local_endpoint();
        CHECK(local.error() == std::errc::address_in_use);
        auto second = co_await door.accept();
        co_return second.error();
    }(other.local));
    CHECK(refused == std::errc::address_in_use);
    CHECK(refused.stage() == parley::stage::listen);
    CHECK(refused.peer() == other.local.to_string());
}

TEST_CASE("an acceptor for a name resolves it at its first use") {
    runtime rt(with_loops(1));
    auto local = rt.sync_wait([]() -> task<endpoint> {
        acceptor<lines> door{endpoint{"localhost", 0}};
        CHECK(door.local_endpoint().error() == std::errc::not_connected);
        auto at = co_await door.listen();
        co_return at.value();
    }());
    CHECK(local.port() != 0);
    CHECK((local.host() == "127.0.0.1" || local.host() == "::1"));
}

TEST_CASE("an acceptor for a name that nobody knows says so") {
    runtime rt(with_loops(1));
    auto failure = rt.sync_wait([]() -> task<parley::error> {
        acceptor<lines> door{endpoint{"no-such-host.invalid", 0}};
        auto peer = co_await door.accept();
        co_return peer.error();
    }());
    CHECK(failure.stage() == parley::stage::resolve);
    CHECK(failure.code().category() == parley::resolve_category());
}

TEST_CASE("an acceptor that was made outside of tasks opens at its first use") {
    runtime rt(with_loops(1));
    acceptor<lines> door{endpoint{"127.0.0.1", 0}};
    CHECK(door.local_endpoint().error() == std::errc::not_connected);
    auto local = rt.sync_wait([](acceptor<lines> &d) -> task<endpoint> {
        auto at = co_await d.listen();
        co_return at.value();
    }(door));
    CHECK(local.port() != 0);
}

TEST_CASE("accept ends with closed when the acceptor is closed") {
    runtime rt(with_loops(1));
    auto failure = rt.sync_wait([]() -> task<parley::error> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        parley::error seen;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](acceptor<lines> &d, parley::error &out) -> task<> {
                auto peer = co_await d.accept();
                out = peer.error();
            }(door, seen));
            co_await parley::yield();
            co_await door.close();
        });
        auto after = co_await door.accept();
        CHECK(after.error() == errc::closed);
        co_return seen;
    }());
    CHECK(failure == errc::closed);
    CHECK(failure.stage() == parley::stage::accept);
}

TEST_CASE("an accept that is awaited while the acceptor is dropped elsewhere ends as stopped") {
    runtime rt(with_loops(1));
    bool returned = rt.sync_wait([]() -> task<bool> {
        bool went_on = false;
        auto door = std::make_unique<acceptor<lines>>(endpoint{"127.0.0.1", 0});
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](acceptor<lines> &d, bool &out) -> task<> {
                auto peer = co_await d.accept();
                out = true;
            }(*door, went_on));
            co_await parley::yield();
            door.reset();
        });
        co_return went_on;
    }());
    CHECK(!returned);
}

TEST_CASE("a closed acceptor refuses new clients and says goodbye to idle ones") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    inbox<parley::error> ended;
    background server(rt, [](inbox<endpoint> &at, inbox<parley::error> &out) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        auto peer = co_await door.accept();
        auto line = co_await peer->recv();
        auto sent = co_await peer->send(*line);
        co_await door.close();
        auto next = co_await peer->recv();
        out.put(next.error());
    }(listening, ended));

    endpoint where = listening.take();
    raw_peer client(where);
    client.send("hello\n");
    CHECK(client.recv_line() == "hello");
    CHECK(client.is_closed_by_peer());
    CHECK(ended.take() == errc::stopping);
    raw_peer late(where);
    CHECK(late.connect_error() == ECONNREFUSED);
}

TEST_CASE("a request that is in flight when the acceptor closes is answered") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    background server(rt, [](inbox<endpoint> &at) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        auto peer = co_await door.accept();
        auto line = co_await peer->recv();
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](acceptor<lines> &d) -> task<> { co_await d.close(); }(door));
            co_await parley::yield();
            auto sent = co_await peer->send(*line);
            CHECK(sent);
        });
    }(listening));

    raw_peer client(listening.take());
    client.send("last\n");
    CHECK(client.recv_line() == "last");
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("drain closes what is still busy when its limit has passed") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    inbox<int> closed;
    inbox<parley::error> ended;
    background server(rt, [](inbox<endpoint> &at, inbox<int> &go, inbox<parley::error> &out) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        auto peer = co_await door.accept();
        auto line = co_await peer->recv();
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](acceptor<lines> &d) -> task<> { co_await d.drain(10ms); }(door));
            co_await parley::compute([&go] { go.take(); });
            auto sent = co_await peer->send(*line);
            out.put(sent.error());
        });
    }(listening, closed, ended));

    raw_peer client(listening.take());
    client.send("never answered\n");
    CHECK(client.is_closed_by_peer());
    closed.put(1);
    CHECK(ended.take().stage() != parley::stage::none);
}

TEST_CASE("connections beyond the queue's limit wait in the kernel and come in when there is room") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    inbox<int> all_connected;
    background server(rt, [](inbox<endpoint> &at, inbox<int> &go) -> task<> {
        parley::acceptor_options options;
        options.queue_limit(2);
        acceptor<lines> door(endpoint{"127.0.0.1", 0}, options);
        at.put(door.local_endpoint().value());
        co_await parley::compute([&go] { go.take(); });
        co_await parley::with_scope([&](parley::scope &peers) -> task<> {
            for (int i = 0; i < 20; i++) {
                auto peer = co_await door.accept();
                peers.spawn(echo<lines>(std::move(*peer)));
            }
        });
    }(listening, all_connected));

    endpoint where = listening.take();
    std::deque<raw_peer> clients;
    for (int i = 0; i < 20; i++)
        clients.emplace_back(where).send("number " + std::to_string(i) + "\n");
    all_connected.put(1);
    for (int i = 0; i < 20; i++)
        CHECK(clients[static_cast<std::size_t>(i)].recv_line() == "number " + std::to_string(i));
    clients.clear();
}

TEST_CASE("several tasks may wait in accept, and each gets one connection") {
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    background server(rt, [](inbox<endpoint> &at) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            for (int i = 0; i < 3; i++) {
                s.spawn([](acceptor<lines> &d) -> task<> {
                    auto peer = co_await d.accept();
                    co_await echo<lines>(std::move(*peer));
                }(door));
            }
            co_await parley::yield();
            at.put(door.local_endpoint().value());
        });
    }(listening));

    endpoint where = listening.take();
    raw_peer a(where), b(where), c(where);
    for (raw_peer *one : {&c, &b, &a}) {
        one->send("hi\n");
        CHECK(one->recv_line() == "hi");
    }
}

TEST_CASE("unix sockets, with a path and in the abstract name space") {
    temp_dir dir;
    for (const std::string &path :
         {dir / "door", std::string("@parley-acceptor-test-") + std::to_string(getpid())}) {
        runtime rt(with_loops(1));
        inbox<endpoint> listening;
        background server(rt, [](std::string at, inbox<endpoint> &out) -> task<> {
            acceptor<lines> door{endpoint::unix_path(at)};
            out.put(door.local_endpoint().value());
            co_await accept_and_echo(door);
        }(path, listening));
        endpoint where = listening.take();
        CHECK(where == endpoint::unix_path(path));
        raw_peer client(where);
        client.send("through the file system\n");
        CHECK(client.recv_line() == "through the file system");
        rt.stop();
    }
}

TEST_CASE("a unix path that is too long is a clear error") {
    runtime rt(with_loops(1));
    auto failure = rt.sync_wait([]() -> task<parley::error> {
        acceptor<lines> door{endpoint::unix_path("/tmp/" + std::string(200, 'x'))};
        auto peer = co_await door.accept();
        co_return peer.error();
    }());
    CHECK(failure == std::errc::filename_too_long);
    CHECK(std::string(failure.detail()).find("107") != std::string::npos);
}

TEST_CASE("the end of the runtime stops a parked accept") {
    bool went_on = false;
    {
        runtime rt(with_loops(2));
        inbox<int> parked;
        rt.start(
            [](inbox<int> &p, bool &out) -> task<> {
                acceptor<lines> door{endpoint{"127.0.0.1", 0}};
                p.put(1);
                auto peer = co_await door.accept();
                out = true;
            }(parked, went_on),
            [](parley::outcome<> how) { CHECK(how.stopped()); });
        parked.take();
    }
    CHECK(!went_on);
}
