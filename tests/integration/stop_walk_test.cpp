// A program that is stopped at each of its suspension points in turn, just before it suspends or while what
// it awaits is under way: everything it held is destroyed once, and no frame, task or descriptor is left.

#include "net.hpp"

#include <atomic>
#include <functional>
#include <thread>

#include <parley/core/CommLoop.h>

#include "coro/coro_test.hpp"

using namespace net;
using parley::client;
using parley::endpoint;
using parley::line_message;
using parley::runtime;
using parley::task;

namespace {

// Stops something at the k-th step of a program.
class stopper {
public:
    stopper(int at, bool under_way) : at_(at), under_way_(under_way) {
        node_.self = this;
        node_.run = [](CommNode *node) { static_cast<stop_node *>(node)->self->stop(); };
    }
    std::function<void()> stop;
    std::atomic<int> steps{0};
    bool stopped() const { return steps >= at_; }

    // Before each suspension, on a loop. A node that is posted there runs when the task has suspended.
    void step() {
        if (++steps != at_)
            return;
        if (under_way_)
            CommLoop::current()->post(&node_);
        else
            stop();
    }

private:
    struct stop_node : CommNode {
        stopper *self = nullptr;
    } node_;
    const int at_;
    const bool under_way_;
};

// The server closes its ends of our connections some time after ours.
void await_descriptors(std::size_t most) {
    auto end = std::chrono::steady_clock::now() + hang_guard;
    while (open_descriptors() > most) {
        if (std::chrono::steady_clock::now() > end)
            hang("await_descriptors");
        std::this_thread::yield();
    }
}

struct counted {
    std::atomic<int> &n;
    explicit counted(std::atomic<int> &count) : n(count) { ++n; }
    counted(const counted &) = delete;
    ~counted() { --n; }
};

task<int> deeper(stopper &s, std::atomic<int> &alive, int depth) {
    counted here(alive);
    s.step();
    co_await parley::yield();
    if (depth == 0)
        co_return 1;
    co_return 1 + co_await deeper(s, alive, depth - 1);
}

task<> deep_child(stopper &s, std::atomic<int> &alive) {
    int depth = co_await deeper(s, alive, 2); // not inside CHECK, which would swallow the cancel
    CHECK(depth == 3);
}

// One suspension of every kind.
task<> program(stopper &s, std::atomic<int> &alive, endpoint where, std::string path, bool &finished) {
    counted here(alive);
    s.step();
    co_await parley::sleep_for(1us);
    int depth = co_await deeper(s, alive, 3);
    CHECK(depth == 4);
    s.step();
    int computed = co_await parley::compute([] { return 7; });
    CHECK(computed == 7);
    client<lines> c{where};
    for (int i = 0; i < 2; i++) { // a fresh connection, and one that was kept
        s.step();
        auto answer = co_await c.request(line_message("x"));
        CHECK(answer);
    }
    s.step();
    auto found = co_await parley::resolve(endpoint("localhost", 80));
    auto f = parley::file::open(path, parley::file_mode::write);
    CHECK(f);
    s.step();
    auto written = co_await f->write_at(0, std::string_view("text"));
    CHECK(written);
    co_await parley::with_scope([&](parley::scope &inner) -> task<> {
        counted body(alive);
        for (int i = 0; i < 3; i++)
            inner.spawn(deep_child(s, alive));
        s.step();
        co_await parley::yield();
        s.step();
        co_await parley::sleep_for(1us);
        inner.spawn([](stopper &st, std::atomic<int> &n) -> task<> {
            counted child(n);
            parley::acceptor<lines> door{endpoint("127.0.0.1", 0)};
            st.step();
            auto peer = co_await door.accept(); // for ever: the body ends it
            CHECK(false);
        }(s, alive));
        co_await parley::yield();
        s.step();
        co_await parley::sleep_for(1us);
        inner.cancel();
    });
    finished = true;
}

} // namespace

TEST_CASE("a runtime that is stopped at any suspension point of a program destroys all of it, and nothing is "
          "left") {
    no_frames_left check;
    temp_dir dir;
    echo_server<lines> server(1);
    const std::size_t descriptors = open_descriptors();
    for (bool under_way : {false, true}) {
        CAPTURE(under_way);
        for (int at = 1;; at++) {
            CAPTURE(at);
            REQUIRE(at < 100);
            stopper s(at, under_way);
            std::atomic<int> alive{0};
            bool finished = false, ended = false;
            {
                runtime rt(with_loops(1));
                s.stop = [&rt] { rt.stop(); };
                background running(rt, program(s, alive, server.local, dir / "file", finished));
                ended = running.join();
            }
            CHECK(alive == 0);
            await_descriptors(descriptors);
            if (!s.stopped()) {
                CHECK(ended);
                CHECK(finished);
                CHECK(at > 10); // there was something to walk through
                break;
            }
            CHECK_FALSE(finished);
            CHECK_FALSE(ended);
        }
    }
    raw_peer client(server.local);
    client.send("alive\n");
    CHECK(client.recv_line() == "alive");
}

TEST_CASE("a scope that is cancelled at any suspension point of its child destroys all of it, and goes on") {
    no_frames_left check;
    temp_dir dir;
    echo_server<lines> server(1);
    runtime rt(with_loops(1));
    for (bool under_way : {false, true}) {
        CAPTURE(under_way);
        for (int at = 1;; at++) {
            CAPTURE(at);
            REQUIRE(at < 100);
            stopper s(at, under_way);
            std::atomic<int> alive{0};
            bool finished = false, went_on = false;
            rt.sync_wait([&](stopper &st) -> task<> {
                co_await parley::with_scope([&](parley::scope &outer) -> task<> {
                    st.stop = [&outer] { outer.cancel(); };
                    outer.spawn(program(st, alive, server.local, dir / "file", finished));
                    co_return;
                });
                went_on = true;
            }(s));
            CHECK(alive == 0);
            CHECK(went_on);
            if (!s.stopped()) {
                CHECK(finished);
                break;
            }
            CHECK_FALSE(finished);
        }
    }
}
