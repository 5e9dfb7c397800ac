#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using parley::scope;
using parley::task;

namespace {

// Two connected, non-blocking sockets.
struct socket_pair {
    int fd[2] = {-1, -1};
    socket_pair() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0); }
    ~socket_pair() {
        close_end(0);
        close_end(1);
    }
    void close_end(int i) {
        if (fd[i] >= 0)
            ::close(fd[i]);
        fd[i] = -1;
    }
    std::string read_all(int i) const {
        char buffer[4096];
        const ssize_t n = ::read(fd[i], buffer, sizeof buffer);
        return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string();
    }
};

} // namespace

TEST_CASE("readable waits for data and then for the end") {
    no_frames_left check;
    socket_pair pair;
    parley::run([](socket_pair &p) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await parley::yield();
                CHECK(::write(p.fd[1], "hello", 5) == 5);
            });
            auto ready = co_await parley::readable(p.fd[0]);
            CHECK(ready.has_value());
            CHECK(p.read_all(0) == "hello");
        });
        p.close_end(1);
        auto at_end = co_await parley::readable(p.fd[0]);
        CHECK(at_end.has_value());
        CHECK(p.read_all(0).empty());
    }(pair));
}

TEST_CASE("what is ready already is seen at once, again and again") {
    no_frames_left check;
    socket_pair pair;
    CHECK(::write(pair.fd[1], "xyz", 3) == 3);
    parley::run([](socket_pair &p) -> task<> {
        for (int i = 0; i < 3; ++i) {
            auto can_read = co_await parley::readable(p.fd[0]);
            CHECK(can_read.has_value());
            char c = 0;
            CHECK(::read(p.fd[0], &c, 1) == 1);
            auto can_write = co_await parley::writable(p.fd[0]);
            CHECK(can_write.has_value());
        }
    }(pair));
}

TEST_CASE("writable waits until the other side has read") {
    no_frames_left check;
    socket_pair pair;
    const std::string block(65536, 'x');
    std::size_t filled = 0;
    for (ssize_t n; (n = ::write(pair.fd[0], block.data(), block.size())) > 0;)
        filled += static_cast<std::size_t>(n);
    std::size_t drained = 0;
    parley::run([](socket_pair &p, std::size_t all, std::size_t &seen) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                while (seen < all) {
                    auto ready = co_await parley::readable(p.fd[1]);
                    CHECK(ready.has_value());
                    seen += p.read_all(1).size();
                }
            });
            auto ready = co_await parley::writable(p.fd[0]);
            CHECK(ready.has_value());
            CHECK(seen > 0);
        });
    }(pair, filled, drained));
    CHECK(drained == filled);
}

TEST_CASE("both sides of one descriptor can be awaited at once") {
    no_frames_left check;
    socket_pair pair;
    int done = 0;
    parley::run([](socket_pair &p, int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto r = co_await parley::readable(p.fd[0]);
                count += r.has_value();
            });
            s.spawn([&]() -> task<> {
                auto w = co_await parley::writable(p.fd[0]);
                count += w.has_value();
                CHECK(::write(p.fd[1], "x", 1) == 1);
            });
            co_return;
        });
    }(pair, done));
    CHECK(done == 2);
}

TEST_CASE("a descriptor that cannot be watched is an error that names it") {
    no_frames_left check;
    socket_pair pair;
    const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0);
    parley::run([](socket_pair &p, int regular) -> task<> {
        auto closed = co_await parley::readable(-1);
        CHECK(!closed);
        CHECK(closed.error() == std::errc::bad_file_descriptor);
        CHECK(closed.error().peer() == "fd -1");
        auto on_disk = co_await parley::readable(regular);
        CHECK(!on_disk);
        CHECK(on_disk.error() == std::errc::operation_not_permitted);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto first = co_await parley::readable(p.fd[0]);
                CHECK(first.has_value());
            });
            co_await parley::yield();
            co_await parley::yield();
            auto second = co_await parley::readable(p.fd[0]);
            CHECK(!second);
            CHECK(second.error() == std::errc::device_or_resource_busy);
            CHECK(::write(p.fd[1], "x", 1) == 1);
        });
    }(pair, file));
    ::close(file);
}

TEST_CASE("a wait for a descriptor is cancelled and can be begun again") {
    no_frames_left check;
    socket_pair pair;
    parley::run([](socket_pair &p) -> task<> {
        for (int i = 0; i < 3; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    auto r = co_await parley::readable(p.fd[0]);
                    FAIL("it was cancelled");
                });
                co_await parley::yield();
                co_await parley::yield();
                s.cancel();
            });
        }
        CHECK(::write(p.fd[1], "x", 1) == 1);
        auto ready = co_await parley::readable(p.fd[0]);
        CHECK(ready.has_value());
    }(pair));
}
