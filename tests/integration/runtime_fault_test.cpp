// Runtimes that cannot be had, or are asked for what makes no sense: they throw and leave nothing, or they
// mean what they say.

#include "net.hpp"

#include <atomic>
#include <optional>
#include <system_error>

#include "core/forwarding_world.h"

using namespace net;
using parley::endpoint;
using parley::line_message;
using parley::runtime;
using parley::runtime_options;
using parley::task;

namespace {

// The n-th call of one kind fails, once or from then on.
class failing_world : public fixture::ForwardingWorld {
public:
    enum kind { threads, epolls, eventfds, memory, registrations };

    void fail(kind which, int n, int error, bool further) {
        which_ = which;
        error_ = error;
        further_ = further;
        failures = 0;
        left_ = n;
    }
    std::atomic<int> failures{0}, running{0}, open{0};

    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        if (fails(threads))
            return error_;
        int error = real.thread_start(thread, run, argument);
        running += error == 0;
        return error;
    }
    void thread_join(parley::sys::thread_handle thread) override {
        real.thread_join(thread);
        --running;
    }
    int epoll_create() override { return opened(fails(epolls) ? -1 : real.epoll_create()); }
    int eventfd() override { return opened(fails(eventfds) ? -1 : real.eventfd()); }
    int close(int fd) override {
        --open;
        return real.close(fd);
    }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        return operation == EPOLL_CTL_ADD && fails(registrations)
                   ? -1
                   : real.epoll_ctl(epfd, operation, fd, event);
    }
    void *allocate(std::size_t size) override { return fails(memory) ? nullptr : real.allocate(size); }

private:
    bool fails(kind asked) {
        if (which_ != asked)
            return false;
        int position = --left_;
        if (position > 0 || (position < 0 && !further_))
            return false;
        ++failures;
        errno = error_;
        return true;
    }
    int opened(int fd) {
        open += fd >= 0;
        return fd;
    }

    std::atomic<int> which_{-1}, error_{0}, left_{0};
    std::atomic<bool> further_{false};
};

class patient_world : public fixture::ForwardingWorld {
public:
    std::atomic<int64_t> ahead{0};
    int64_t monotonic_ns() override { return real.monotonic_ns() + ahead; }
};

// Whether a client that is slow by that time is served under that limit.
bool lasts(std::chrono::milliseconds limit, std::chrono::hours time) {
    patient_world world;
    fixture::InstalledWorld installed(world);
    runtime_options options = with_loops(1);
    options.first_message = options.handshake = options.send = limit;
    runtime rt(options);
    inbox<endpoint> listening;
    background running(rt, [](inbox<endpoint> &at) -> task<> {
        parley::serve_options serving;
        serving.on_listening([&at](const endpoint &where) { at.put(where); });
        auto served =
            co_await parley::serve<lines>(endpoint("127.0.0.1", 0), echo<lines>, std::move(serving));
    }(listening));
    raw_peer client(listening.take());
    client.send("half a");
    for (int i = 0; i < 3; i++)
        rt.sync_wait([]() -> task<> { co_await parley::yield(); }());
    world.ahead += std::chrono::nanoseconds(time).count();
    for (int i = 0; i < 3; i++)
        rt.sync_wait([]() -> task<> { co_await parley::yield(); }());
    client.send(" line\n");
    bool alive = client.recv_line() == "half a line";
    rt.stop();
    return alive;
}

} // namespace

TEST_CASE("a runtime that cannot have a thread, a descriptor or memory throws and leaves none behind") {
    struct {
        failing_world::kind kind;
        int error;
    } const cases[] = {
        {failing_world::threads, EAGAIN},  {failing_world::epolls, EMFILE},
        {failing_world::eventfds, ENFILE}, {failing_world::registrations, ENOSPC},
        {failing_world::memory, ENOMEM},
    };
    for (const auto &each : cases) {
        for (bool further : {false, true}) {
            for (int n = 1;; n++) {
                CAPTURE(each.kind);
                CAPTURE(further);
                CAPTURE(n);
                REQUIRE(n < 50);
                failing_world world;
                fixture::InstalledWorld installed(world);
                world.fail(each.kind, n, each.error, further);
                runtime_options options = with_loops(2);
                options.handler_threads = 1;
                int error = 0;
                try {
                    runtime rt(options);
                    CHECK(rt.sync_wait([]() -> task<int> { co_return 7; }()) == 7);
                } catch (const std::system_error &e) {
                    error = e.code().value();
                }
                CHECK(world.running == 0);
                CHECK(world.open == 0);
                if (world.failures == 0) {
                    CHECK(error == 0);
                    CHECK(n > 1);
                    break;
                }
                CHECK(error == each.error);
            }
        }
    }
}

TEST_CASE("five hundred runtimes start, serve and stop without leaving a thread or a descriptor") {
    failing_world world; // which counts, and fails nothing
    fixture::InstalledWorld installed(world);
    const std::size_t descriptors = open_descriptors();
    for (int i = 0; i < 500; i++) {
        CAPTURE(i);
        echo_server<lines> server(static_cast<std::size_t>(1 + i % 2));
        raw_peer client(server.local);
        client.send("x\n");
        CHECK(client.recv_line() == "x");
    }
    CHECK(world.running == 0);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("limits of a runtime: negative ones are none, and weeks are weeks") {
    const std::chrono::milliseconds none[] = {-1ms, -1000ms, std::chrono::milliseconds(INT64_MIN)};
    const std::chrono::milliseconds weeks[] = {std::chrono::hours(24 * 24)};
    for (std::chrono::milliseconds limit : none) {
        CAPTURE(limit.count());
        CHECK(lasts(limit, std::chrono::hours(24 * 365)));
    }
    for (std::chrono::milliseconds limit : weeks) {
        CAPTURE(limit.count());
        CHECK(lasts(limit, std::chrono::hours(24 * 20)));
        CHECK_FALSE(lasts(limit, std::chrono::hours(24 * 25)));
    }
}

TEST_CASE("limits of a runtime of fifty days and more are not cut down to moments") {
    // 2^32 + 50 ms, and what nobody lives to see: no limit that an int cannot hold may become a short one.
    for (auto limit :
         {std::chrono::milliseconds((int64_t{1} << 32) + 50), std::chrono::milliseconds(INT64_MAX)}) {
        CAPTURE(limit.count());
        CHECK(lasts(limit, std::chrono::hours(1)));
    }
}
