#include <doctest/doctest.h>

#include <fcntl.h>

#include <array>

#include "peers.h"

using namespace peers;

namespace {

class Watcher : public CommWatch {
public:
    Signal done;
    int state = -1, error = -1, handled = 0;
    std::thread::id thread;
    std::function<void()> then;

private:
    void handle(int result, int code) override {
        state = result;
        error = code;
        thread = std::this_thread::get_id();
        handled++;
        if (then)
            then();
        done.set();
    }
};

struct Pipe {
    std::array<int, 2> fd{-1, -1};
    Pipe() { REQUIRE(pipe2(fd.data(), O_NONBLOCK | O_CLOEXEC) == 0); }
    ~Pipe() {
        close(fd[0]);
        close(fd[1]);
    }
    void write_byte() { REQUIRE(write(fd[1], "x", 1) == 1); }
    void read_byte() {
        char byte;
        REQUIRE(read(fd[0], &byte, 1) == 1);
    }
};

} // namespace

TEST_CASE("a watched pipe is told readable once, on the loop, and again only when asked again") {
    Running comm;
    Pipe pipe;
    Watcher watcher;
    std::thread::id loop_thread;
    REQUIRE(run_on(comm.loop(0), [&] {
        loop_thread = std::this_thread::get_id();
        CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0);
    }));
    CHECK(watcher.done.count() == 0);
    pipe.write_byte();
    REQUIRE(watcher.done.wait());
    CHECK(watcher.state == CS_STATE_SUCCESS);
    CHECK(watcher.error == 0);
    CHECK(watcher.thread == loop_thread);
    pipe.write_byte();
    REQUIRE(run_on(comm.loop(0), [] {}));
    CHECK(watcher.handled == 1);
    REQUIRE(run_on(comm.loop(0), [&] { CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0); }));
    REQUIRE(watcher.done.wait(2)); // the bytes are still there
    comm.deinit();
    CHECK(watcher.handled == 2);
}

TEST_CASE("a watcher may ask again from its handle(), a hundred times") {
    Running comm;
    Pipe pipe;
    Watcher watcher;
    Signal all;
    watcher.then = [&] {
        pipe.read_byte();
        if (watcher.handled == 100)
            all.set();
        else
            CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0);
    };
    REQUIRE(run_on(comm.loop(0), [&] { CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0); }));
    for (int i = 0; i < 100; i++)
        pipe.write_byte();
    REQUIRE(all.wait());
    comm.deinit(); // the last handle() has returned
}

TEST_CASE("a reader and a writer of one descriptor are told independently") {
    Running comm;
    int fd[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    Watcher reader, writer;
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&reader, fd[0], false) == 0);
        CHECK(comm.watch(&writer, fd[0], true) == 0);
    }));
    REQUIRE(writer.done.wait());
    CHECK(reader.done.count() == 0);
    REQUIRE(write(fd[1], "x", 1) == 1);
    REQUIRE(reader.done.wait());
    CHECK(reader.state == CS_STATE_SUCCESS);
    CHECK(writer.state == CS_STATE_SUCCESS);
    comm.deinit();
    CHECK(reader.handled == 1);
    CHECK(writer.handled == 1);
    close(fd[0]);
    close(fd[1]);
}

TEST_CASE("a hang-up tells reader and writer alike") {
    Running comm;
    int fd[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    std::string filler(1 << 20, 'x');
    while (write(fd[0], filler.data(), filler.size()) > 0) {
    }
    Watcher reader, writer;
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&reader, fd[0], false) == 0);
        CHECK(comm.watch(&writer, fd[0], true) == 0);
    }));
    close(fd[1]);
    REQUIRE(reader.done.wait());
    REQUIRE(writer.done.wait());
    CHECK(reader.state == CS_STATE_SUCCESS);
    CHECK(writer.state == CS_STATE_SUCCESS);
    close(fd[0]);
}

TEST_CASE("a side of a descriptor that is watched already is refused with EBUSY") {
    Running comm;
    Pipe pipe;
    Watcher first, second;
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&first, pipe.fd[0], false) == 0);
        errno = 0;
        CHECK(comm.watch(&second, pipe.fd[0], false) == -1);
        CHECK(errno == EBUSY);
    }));
    comm.deinit();
    CHECK(first.handled == 1);
    CHECK(second.handled == 0);
}

TEST_CASE("watch() off the loop is EPERM, of a closed descriptor EBADF") {
    Running comm;
    Running other;
    Pipe pipe;
    Watcher watcher;
    errno = 0;
    CHECK(comm.watch(&watcher, pipe.fd[0], false) == -1);
    CHECK(errno == EPERM);
    REQUIRE(run_on(other.loop(0), [&] {
        errno = 0;
        CHECK(comm.watch(&watcher, pipe.fd[0], false) == -1);
        CHECK(errno == EPERM);
    }));
    int closed = dup(pipe.fd[0]);
    close(closed);
    REQUIRE(run_on(comm.loop(0), [&] {
        errno = 0;
        CHECK(comm.watch(&watcher, closed, false) == -1);
        CHECK(errno == EBADF);
    }));
    CHECK(watcher.handled == 0);
}

TEST_CASE("unwatch() yields ECANCELED once, later, and frees the descriptor for others") {
    Running comm;
    Pipe pipe;
    Watcher watcher, next;
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0);
        CHECK(comm.unwatch(&watcher) == 0);
        CHECK(watcher.handled == 0);
        errno = 0;
        CHECK(comm.unwatch(&watcher) == -1);
        CHECK(errno == ENOENT);
        CHECK(comm.watch(&next, pipe.fd[0], false) == 0);
    }));
    REQUIRE(watcher.done.wait());
    CHECK(watcher.state == CS_STATE_ERROR);
    CHECK(watcher.error == ECANCELED);
    pipe.write_byte();
    REQUIRE(next.done.wait());
    CHECK(next.state == CS_STATE_SUCCESS);
    comm.deinit();
    CHECK(watcher.handled == 1);
}

TEST_CASE("unwatch() of one side leaves the other side watched") {
    Running comm;
    int fd[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    std::string filler(1 << 20, 'x');
    while (write(fd[0], filler.data(), filler.size()) > 0) {
    }
    Watcher reader, writer;
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&reader, fd[0], false) == 0);
        CHECK(comm.watch(&writer, fd[0], true) == 0);
        CHECK(comm.unwatch(&writer) == 0);
    }));
    REQUIRE(writer.done.wait());
    CHECK(reader.done.count() == 0);
    REQUIRE(write(fd[1], "x", 1) == 1);
    REQUIRE(reader.done.wait());
    CHECK(reader.state == CS_STATE_SUCCESS);
    close(fd[0]);
    close(fd[1]);
}

TEST_CASE("when both sides are ready at once, the first told may find that the other cannot be cancelled any "
          "more") {
    Running comm;
    int fd[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    REQUIRE(write(fd[1], "x", 1) == 1);
    Watcher reader, writer;
    int result = 0, error = 0;
    reader.then = [&] {
        result = comm.unwatch(&writer);
        error = errno;
    };
    REQUIRE(run_on(comm.loop(0), [&] {
        CHECK(comm.watch(&writer, fd[0], true) == 0);
        CHECK(comm.watch(&reader, fd[0], false) == 0);
    }));
    REQUIRE(reader.done.wait());
    REQUIRE(writer.done.wait());
    comm.deinit();
    CHECK(writer.handled == 1);
    if (result == 0)
        CHECK(writer.error == ECANCELED);
    else
        CHECK(error == ENOENT);
    close(fd[0]);
    close(fd[1]);
}

TEST_CASE("the descriptor may be closed and its number reused as soon as its watchers have been told") {
    Running comm;
    for (int i = 0; i < 50; i++) {
        Pipe pipe;
        Watcher watcher;
        pipe.write_byte();
        REQUIRE(run_on(comm.loop(0), [&] { CHECK(comm.watch(&watcher, pipe.fd[0], false) == 0); }));
        REQUIRE(watcher.done.wait());
        CHECK(watcher.state == CS_STATE_SUCCESS);
    }
}
