// How a connection ends from this side: close(), handles that are dropped, empty ones and late ones.

#include "one_server.hpp"

#include <memory>

using namespace net;
using parley::connection;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::task;

TEST_CASE("close waits until the descriptor is closed, and later operations are closed") {
    inbox<parley::error> after;
    auto server = serve_one([&after](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        CHECK(line);
        co_await peer.close();
        auto again = co_await peer.recv();
        after.put(again.error());
        auto sent = co_await peer.send(line_message("late"));
        after.put(sent.error());
        auto pushed = co_await peer.push(line_message("late"));
        after.put(pushed.error());
        co_await peer.close();
    });
    raw_peer client(server.local);
    client.send("never answered\n");
    CHECK(client.is_closed_by_peer());
    for (int i = 0; i < 3; i++) {
        parley::error one = after.take();
        CHECK(one == errc::closed);
        CHECK(one.peer() == client.local().to_string());
    }
}

TEST_CASE("an empty handle is closed") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        connection<lines> nobody;
        CHECK(!nobody);
        auto line = co_await nobody.recv();
        CHECK(line.error() == errc::closed);
        auto sent = co_await nobody.send(line_message("x"));
        CHECK(sent.error() == errc::closed);
        auto pushed = co_await nobody.push(line_message("x"));
        CHECK(pushed.error() == errc::closed);
        co_await nobody.close();
        CHECK(!nobody.peer());
    }());
}

TEST_CASE("a recv that is awaited while close is called ends with closed") {
    inbox<parley::error> ended;
    auto server = serve_one([&ended](connection<lines> peer) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](connection<lines> &p, inbox<parley::error> &out) -> task<> {
                auto line = co_await p.recv();
                out.put(line.error());
            }(peer, ended));
            co_await parley::yield();
            co_await peer.close();
        });
    });
    raw_peer client(server.local);
    CHECK(client.is_closed_by_peer());
    CHECK(ended.take() == errc::closed);
}

TEST_CASE("a recv that is awaited while the handle is dropped elsewhere ends as stopped") {
    inbox<bool> went_on;
    auto server = serve_one([&went_on](connection<lines> peer) -> task<> {
        bool reached = false;
        auto owned = std::make_unique<connection<lines>>(std::move(peer));
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](connection<lines> &p, bool &out) -> task<> {
                auto line = co_await p.recv();
                out = true;
            }(*owned, reached));
            co_await parley::yield();
            owned.reset();
        });
        went_on.put(reached);
    });
    raw_peer client(server.local);
    CHECK(client.is_closed_by_peer());
    CHECK(!went_on.take());
}

TEST_CASE("a handle that is dropped on another thread closes its connection") {
    inbox<connection<lines>> handed;
    auto server = serve_one([&handed](connection<lines> peer) -> task<> {
        handed.put(std::move(peer));
        co_return;
    });
    raw_peer client(server.local);
    {
        connection<lines> here = handed.take();
    }
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("a handle may outlive its runtime") {
    inbox<connection<lines>> handed;
    connection<lines> late;
    {
        auto server = serve_one([&handed](connection<lines> peer) -> task<> {
            handed.put(std::move(peer));
            co_return;
        });
        raw_peer client(server.local);
        late = handed.take();
        server.join();
    }
    CHECK(late);
}
