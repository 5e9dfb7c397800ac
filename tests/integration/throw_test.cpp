// Exceptions at every place where a handler may throw: its connection is closed and the exception is reported
// once, with its own type; the loop, the server and the other connections go on.

#include "net.hpp"

#include <atomic>
#include <stdexcept>

#include "coro/coro_test.hpp"

using namespace net;
using parley::connection;
using parley::endpoint;
using parley::line_message;
using parley::task;

namespace {

struct own_type {
    std::string place;
};

struct throws_when_destroyed {
    std::string place;
    ~throws_when_destroyed() noexcept(false) { throw own_type{place}; }
};

struct throws_in_await {
    std::string place;
    bool await_ready() const {
        if (place == "await_ready")
            throw own_type{place};
        return false;
    }
    bool await_suspend(std::coroutine_handle<>) const {
        if (place == "await_suspend")
            throw own_type{place};
        return false;
    }
    void await_resume() const {
        if (place == "await_resume")
            throw own_type{place};
    }
};

// What the client asks for.
const char *const places[] = {"in the handler",    "in a task below",  "after a suspension",
                              "in compute",        "in a child",       "in the body of a scope",
                              "in a destructor",   "await_ready",      "await_suspend",
                              "await_resume",      "after the answer", "while a push is under way",
                              "between two pushes"};

task<> below(std::string place, bool suspends) {
    if (suspends)
        co_await parley::sleep_for(1us);
    throw own_type{std::move(place)};
}

task<> handler(connection<lines> peer) {
    while (auto line = co_await peer.recv()) {
        const std::string place = line->text();
        if (place == "in the handler")
            throw own_type{place};
        if (place == "in a task below")
            co_await below(place, false);
        if (place == "after a suspension")
            co_await below(place, true);
        if (place == "in compute")
            co_await parley::compute([&place] { throw own_type{place}; });
        if (place == "in a child") {
            co_await parley::with_scope([&place](parley::scope &s) -> task<> {
                s.spawn(below(place, true));
                s.spawn([]() -> task<> { co_await parley::sleep_for(1h); }());
                co_return;
            });
        }
        if (place == "in the body of a scope") {
            co_await parley::with_scope([&place](parley::scope &s) -> task<> {
                s.spawn([]() -> task<> { co_await parley::sleep_for(1h); }());
                co_await parley::yield();
                throw own_type{place};
            });
        }
        if (place == "in a destructor") {
            throws_when_destroyed last{place};
            co_await parley::yield();
        }
        if (place.starts_with("await_")) {
            throws_in_await awaiter{place};
            co_await awaiter;
        }
        if (place == "while a push is under way" || place == "between two pushes") {
            auto pushed = co_await peer.push(line_message("pushed"));
            CHECK(pushed);
            if (place == "between two pushes")
                throw own_type{place};
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                s.spawn([](connection<lines> &to) -> task<> {
                    auto more = co_await to.push(line_message(std::string(1 << 20, 'x')));
                    static_cast<void>(more); // it fails with the connection
                }(peer));
                co_await parley::yield();
                throw own_type{place};
            });
        }
        auto sent = co_await peer.send(*line);
        CHECK(sent);
        if (place == "after the answer")
            throw own_type{place};
    }
}

class throwing_server {
public:
    explicit throwing_server(parley::serve_options options = {})
        : rt(with_loops(1)), running_(rt, serve(std::move(options))) {
        where = listening_.take();
    }
    ~throwing_server() { rt.stop(); }

    parley::runtime rt;
    endpoint where;
    inbox<std::string> reports;

private:
    task<> serve(parley::serve_options options) {
        options.on_listening([this](const endpoint &at) { listening_.put(at); });
        options.on_exception([this](const endpoint &, std::exception_ptr why) {
            try {
                std::rethrow_exception(why);
            } catch (const own_type &e) {
                reports.put(e.place);
            } catch (...) {
                reports.put("something else");
            }
            throw std::runtime_error("the sink throws as well"); // which goes no further
        });
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), handler, std::move(options));
        CHECK(served);
    }

    inbox<endpoint> listening_;
    background running_;
};

} // namespace

TEST_CASE(
    "wherever a handler throws, its connection is closed, the exception reported, and the others served") {
    no_frames_left check;
    throwing_server server;
    raw_peer other(server.where);
    for (const char *place : places) {
        CAPTURE(std::string(place));
        raw_peer client(server.where);
        client.send(std::string(place) + "\n");
        client.recv_all(); // up to the end of the connection
        CHECK(server.reports.take() == place);
        other.send("nothing\n");
        CHECK(other.recv_line() == "nothing");
    }
    CHECK(server.reports.empty());
}

TEST_CASE("a thousand handlers that throw leave no frame and no descriptor") {
    no_frames_left check;
    throwing_server server;
    raw_peer other(server.where);
    other.send("nothing\n");
    CHECK(other.recv_line() == "nothing");
    const std::size_t descriptors = open_descriptors();
    for (int i = 0; i < 1000; i++) {
        raw_peer client(server.where);
        client.send(i % 2 == 0 ? "in the handler\n" : "in a child\n");
        client.recv_all();
        server.reports.take();
    }
    other.send("nothing\n");
    CHECK(other.recv_line() == "nothing"); // after the last connection was closed
    CHECK(open_descriptors() == descriptors);
}
