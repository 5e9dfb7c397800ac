// A handler whose peer has gone while it works for it.

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include "net.hpp"

using namespace net;
using parley::connection;
using parley::endpoint;
using parley::runtime;
using parley::serve_options;
using parley::task;

namespace {

// A server with this handler, on one loop.
template <class H>
class serving {
public:
    explicit serving(H &handler, serve_options options = {})
        : rt(with_loops(1)), running_(rt, serve(handler, std::move(options))) {
        where = listening_.take();
    }
    ~serving() { rt.stop(); }

    runtime rt;
    endpoint where;

private:
    task<> serve(H &handler, serve_options options) {
        options.on_listening([this](const endpoint &at) { listening_.put(at); });
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), handler, std::move(options));
    }

    inbox<endpoint> listening_;
    background running_;
};

// Says how its block ended.
class verdict {
public:
    explicit verdict(inbox<std::string> &to) : to_(to) {}
    verdict(const verdict &) = delete;
    ~verdict() { to_.put(said); }
    std::string said = "cancelled";

private:
    inbox<std::string> &to_;
};

} // namespace

TEST_CASE("a handler that works on an answer is cancelled when its peer resets the connection") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        story.put("works");
        co_await parley::sleep_for(24h);
        end.said = "went on";
    };
    serving server(handler);
    raw_peer client(server.where);
    client.send("work\n");
    CHECK(story.take() == "works");
    client.reset();
    CHECK(story.take() == "cancelled");
}

TEST_CASE("a handler between two requests is cancelled as well, wherever below it waits") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        auto late = co_await parley::with_timeout(
            24h,
            parley::when_any(parley::sleep_for(24h), [&]() -> task<> { co_await parley::sleep_for(24h); }));
        end.said = "went on";
    };
    serving server(handler);
    raw_peer client(server.where);
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    client.reset();
    CHECK(story.take() == "cancelled");
}

TEST_CASE("a clean-up of a handler whose peer has gone may still await") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        auto work = [&]() -> task<> {
            auto line = co_await peer.recv();
            story.put("works");
            co_await parley::sleep_for(24h);
        };
        auto clean = [&]() -> task<> {
            co_await parley::yield();
            story.put("cleaned");
        };
        co_await parley::finally(work(), clean);
    };
    serving server(handler);
    raw_peer client(server.where);
    client.send("work\n");
    CHECK(story.take() == "works");
    client.reset();
    CHECK(story.take() == "cleaned");
}

TEST_CASE("a handler in recv() is told by its result, and goes on") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        auto next = co_await peer.recv();
        co_await parley::yield();
        end.said = next ? "a request" : next.error().message();
    };
    serving server(handler);
    raw_peer client(server.where);
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    client.reset();
    CHECK(story.take() == "Connection reset by peer");
}

TEST_CASE("the end of the peer's stream alone cancels nobody: the answer arrives") {
    inbox<std::string> story;
    inbox<bool> go;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        co_await parley::compute([&] { return go.take(); });
        auto sent = co_await peer.send(*line);
        end.said = sent ? "answered" : to_string(sent.error());
    };
    serving server(handler);
    raw_peer client(server.where);
    client.send("half\n");
    client.half_close();
    go.put(true);
    CHECK(client.recv_line() == "half");
    CHECK(story.take() == "answered");
}

TEST_CASE("cancel_when_gone(false): the handler goes on, and its send() fails") {
    inbox<std::string> story;
    inbox<bool> go;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        story.put("works");
        co_await parley::compute([&] { return go.take(); });
        auto sent = co_await peer.send(*line);
        auto next = co_await peer.recv(); // an end either way
        end.said = next ? "a request" : "failed";
    };
    serve_options options;
    options.cancel_when_gone(false);
    serving server(handler, options);
    raw_peer client(server.where);
    client.send("work\n");
    CHECK(story.take() == "works");
    client.reset();
    go.put(true);
    CHECK(story.take() == "failed");
}

TEST_CASE("a hundred handlers whose peers go at any moment all end") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        while (auto line = co_await peer.recv()) {
            for (int i = 0; i < 3; ++i)
                co_await parley::yield();
            if (auto sent = co_await peer.send(*line); !sent)
                break;
        }
        end.said = "ended";
    };
    serving server(handler);
    for (int i = 0; i < 100; ++i) {
        raw_peer client(server.where);
        for (int n = 0; n < i % 7; ++n)
            client.send("x\n");
        if (i % 2 == 0)
            client.reset();
    }
    for (int i = 0; i < 100; ++i)
        story.take();
}

TEST_CASE("a handler whose peer half-closes is cancelled where that was asked for") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        if (line->text() == "two")
            auto sent = co_await peer.send(*line);
        story.put("works");
        co_await parley::sleep_for(24h);
        end.said = "went on";
    };
    serving server(handler, serve_options().cancel_when_half_closed(true));
    for (const char *question : {"one\n", "two\n"}) { // in a turn, and between two
        raw_peer client(server.where);
        client.send(question);
        CHECK(story.take() == "works");
        client.half_close();
        CHECK(story.take() == "cancelled");
    }
}

TEST_CASE("a FIN that comes with the request cancels the handler, and a recv() learns of the end itself") {
    inbox<std::string> story;
    auto handler = [&](connection<lines> peer) -> task<> {
        verdict end(story);
        auto line = co_await peer.recv();
        if (line->text() == "on") {
            auto sent = co_await peer.send(*line);
            auto none = co_await peer.recv();
            end.said = none.error().code().message();
            co_return;
        }
        co_await parley::sleep_for(24h);
        end.said = "went on";
    };
    serving server(handler, serve_options().cancel_when_half_closed(true));
    raw_peer gives_up(server.where);
    gives_up.send("work\n");
    gives_up.half_close();
    CHECK(story.take() == "cancelled");
    raw_peer reads_on(server.where);
    reads_on.send("on\n");
    CHECK(reads_on.recv_line() == "on");
    reads_on.half_close();
    CHECK(story.take() == parley::make_error_code(parley::errc::end_of_stream).message());
}
