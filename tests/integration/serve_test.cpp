#include "net.hpp"

#include <atomic>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace net;
using parley::client;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::serve_options;
using parley::server;
using parley::task;

TEST_CASE("serve echoes on every loop through one port") {
    echo_server<lines> server(2);
    CHECK(server.local.port() != 0);
    std::deque<raw_peer> clients;
    for (int i = 0; i < 50; i++)
        clients.emplace_back(server.local).send("client " + std::to_string(i) + "\n");
    for (int i = 0; i < 50; i++)
        CHECK(clients[static_cast<std::size_t>(i)].recv_line() == "client " + std::to_string(i));
}

TEST_CASE("connections are spread over the loops and stay on theirs") {
    inbox<std::size_t> loops;
    inbox<endpoint> listening;
    runtime rt(with_loops(2));
    background running(rt, [](inbox<std::size_t> &seen, inbox<endpoint> &at) -> task<> {
        auto handler = [&seen](connection<lines> peer) -> task<> {
            std::size_t first = parley::this_loop().index();
            while (auto line = co_await peer.recv()) {
                CHECK(parley::this_loop().index() == first);
                auto sent = co_await peer.send(*line);
            }
            seen.put(first);
        };
        serve_options options;
        options.on_listening([&at](const endpoint &where) { at.put(where); });
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), handler, options);
    }(loops, listening));

    endpoint where = listening.take();
    std::deque<raw_peer> clients;
    for (int i = 0; i < 16; i++) {
        clients.emplace_back(where).send("x\n");
        CHECK(clients.back().recv_line() == "x");
    }
    clients.clear();
    std::set<std::size_t> used;
    for (int i = 0; i < 16; i++)
        used.insert(loops.take());
    CHECK(used.size() == 2);
    rt.stop();
}

TEST_CASE("serve over IPv6 and over a unix socket") {
    temp_dir dir;
    for (const endpoint &where : {endpoint("::1", 0), endpoint::unix_path(dir / "door")}) {
        echo_server<lines> server(2, where);
        raw_peer client(server.local);
        client.send("hello\n");
        CHECK(client.recv_line() == "hello");
    }
}

TEST_CASE("serve on a port in use returns the error") {
    echo_server<lines> first;
    runtime rt(with_loops(2));
    auto served = rt.sync_wait(parley::serve<lines>(first.local, echo<lines>));
    CHECK(!served);
    CHECK(served.error() == std::errc::address_in_use);
    CHECK(served.error().stage() == parley::stage::listen);
}

TEST_CASE("serve at a name that nobody knows returns the error") {
    runtime rt(with_loops(1));
    auto served = rt.sync_wait(parley::serve<lines>(endpoint("no-such-host.invalid", 0), echo<lines>));
    CHECK(served.error().stage() == parley::stage::resolve);
}

TEST_CASE(
    "an exception that leaves a handler closes its connection, is reported with the peer, and no more") {
    inbox<std::string> reports;
    auto handler = [](connection<lines> peer) -> task<> {
        while (auto line = co_await peer.recv()) {
            if (line->text() == "throw")
                throw std::runtime_error("as asked");
            auto sent = co_await peer.send(*line);
        }
    };
    serve_options options;
    options.on_exception([&reports](const endpoint &peer, std::exception_ptr failure) {
        try {
            std::rethrow_exception(failure);
        } catch (const std::runtime_error &e) {
            reports.put(peer.to_string() + " " + e.what());
        }
    });
    runtime rt(with_loops(2));
    inbox<endpoint> listening;
    options.on_listening([&listening](const endpoint &where) { listening.put(where); });
    background running(rt, [](auto &h, serve_options o) -> task<> {
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), h, o);
    }(handler, options));

    endpoint where = listening.take();
    raw_peer good(where), bad(where);
    good.send("before\n");
    CHECK(good.recv_line() == "before");
    bad.send("throw\n");
    CHECK(bad.is_closed_by_peer());
    CHECK(reports.take() == bad.local().to_string() + " as asked");
    good.send("after\n");
    CHECK(good.recv_line() == "after");
    rt.stop();
}

TEST_CASE("a handler that throws instead of making a task is reported too") {
    inbox<std::string> reports;
    auto handler = [](connection<lines>) -> task<> { throw std::logic_error("no task"); };
    serve_options options;
    options.on_exception(
        [&reports](const endpoint &peer, std::exception_ptr) { reports.put(peer.to_string()); });
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    options.on_listening([&listening](const endpoint &where) { listening.put(where); });
    background running(rt, [](auto &h, serve_options o) -> task<> {
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), h, o);
    }(handler, options));
    endpoint where = listening.take();
    raw_peer one(where);
    CHECK(one.is_closed_by_peer());
    reports.take();
    raw_peer two(where);
    CHECK(two.is_closed_by_peer());
    reports.take();
    rt.stop();
}

TEST_CASE("a server as an object: its port is known before it serves, close ends it") {
    runtime rt(with_loops(2));
    inbox<endpoint> listening;
    inbox<int> go;
    background running(rt, [](inbox<endpoint> &at, inbox<int> &when) -> task<> {
        server<lines> door(endpoint("127.0.0.1", 0), echo<lines>);
        CHECK(door.local_endpoint().error() == std::errc::not_connected);
        auto where = co_await door.listen();
        CHECK(*door.local_endpoint() == *where);
        at.put(*where);
        bool served = false;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](server<lines> &d, bool &ok) -> task<> {
                auto how = co_await d.serve();
                ok = bool(how);
            }(door, served));
            co_await parley::compute([&when] { when.take(); });
            auto closed = co_await door.close();
            CHECK(closed);
        });
        CHECK(served);
        auto again = co_await door.serve();
        CHECK(again);
    }(listening, go));

    endpoint where = listening.take();
    raw_peer idle(where);
    idle.send("x\n");
    CHECK(idle.recv_line() == "x");
    go.put(1);
    CHECK(idle.is_closed_by_peer());
    CHECK(running.join());
    raw_peer late(where);
    CHECK(late.connect_error() == ECONNREFUSED);
}

TEST_CASE("a server lets requests in flight be answered when it closes") {
    runtime rt(with_loops(2));
    inbox<endpoint> listening;
    inbox<int> received, closing;
    background running(rt, [](inbox<endpoint> &at, inbox<int> &got, inbox<int> &go) -> task<> {
        auto handler = [&got, &go](connection<lines> peer) -> task<> {
            auto line = co_await peer.recv();
            got.put(1);
            co_await parley::compute([&go] { go.take(); });
            auto sent = co_await peer.send(*line);
            CHECK(sent);
            auto next = co_await peer.recv();
            CHECK(next.error() == errc::stopping);
            CHECK(next.error().peer() == peer.peer().to_string());
        };
        server<lines> door(endpoint("127.0.0.1", 0), handler);
        auto where = co_await door.listen();
        at.put(*where);
        co_await parley::compute([&got] { got.take(); });
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](server<lines> &d) -> task<> {
                auto closed = co_await d.close();
                CHECK(closed);
            }(door));
            co_await parley::yield();
            go.put(1);
        });
    }(listening, received, closing));
    raw_peer client(listening.take());
    client.send("in flight\n");
    CHECK(client.recv_line() == "in flight");
    CHECK(client.is_closed_by_peer());
    CHECK(running.join());
}

TEST_CASE("the end of the runtime stops handlers, wherever they are, and serve waits for them") {
    std::atomic<int> alive{0};
    struct counted {
        std::atomic<int> &n;
        explicit counted(std::atomic<int> &count) : n(count) { ++n; }
        ~counted() { --n; }
    };
    auto handler = [&alive](connection<lines> peer) -> task<> {
        counted here(alive);
        auto line = co_await peer.recv();
        if (line && line->text() == "sleep")
            co_await parley::sleep_for(std::chrono::hours(1));
        auto next = co_await peer.recv();
        CHECK(false); // not reached
    };
    {
        runtime rt(with_loops(2));
        inbox<endpoint> listening;
        serve_options options;
        options.on_listening([&listening](const endpoint &where) { listening.put(where); });
        background running(rt, [](auto &h, serve_options o) -> task<> {
            auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), h, o);
        }(handler, options));
        endpoint where = listening.take();
        raw_peer silent(where), sleeping(where), receiving(where);
        sleeping.send("sleep\n");
        receiving.send("something else\n");
        rt.stop();
        CHECK(!running.join());
        CHECK(alive == 0);
        CHECK(silent.is_closed_by_peer());
        CHECK(sleeping.is_closed_by_peer());
        CHECK(receiving.is_closed_by_peer());
    }
}

TEST_CASE("a server that is dropped while it serves elsewhere closes") {
    runtime rt(with_loops(2));
    inbox<endpoint> listening;
    inbox<int> go;
    background running(rt, [](inbox<endpoint> &at, inbox<int> &when) -> task<> {
        auto door = std::make_unique<server<lines>>(endpoint("127.0.0.1", 0), echo<lines>);
        auto where = co_await door->listen();
        at.put(*where);
        bool went_on = false;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](server<lines> &d, bool &out) -> task<> {
                auto how = co_await d.serve();
                out = true;
            }(*door, went_on));
            co_await parley::compute([&when] { when.take(); });
            door.reset();
        });
        CHECK(!went_on);
    }(listening, go));
    raw_peer client(listening.take());
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    go.put(1);
    CHECK(client.is_closed_by_peer());
    CHECK(running.join());
}

TEST_CASE("a storm of short connections leaves no descriptor behind") {
    std::size_t before = open_descriptors();
    {
        echo_server<lines> server(2);
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; t++) {
            threads.emplace_back([&server] {
                for (int i = 0; i < 100; i++) {
                    raw_peer client(server.local);
                    client.send("short\n");
                    if (i % 3 == 0)
                        client.reset();
                    else if (client.recv_line() != "short")
                        std::abort();
                }
            });
        }
        for (std::thread &one : threads)
            one.join();
    }
    CHECK(open_descriptors() == before);
}
