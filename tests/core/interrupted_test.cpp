// Signals that interrupt system calls: the seam makes a blocking call again, and a loop whose epoll_wait()
// ends with EINTR loses nothing.

#include <doctest/doctest.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>

#include "blocked.h"
#include "forwarding_world.h"
#include "peers.h"

using namespace peers;

namespace {

std::atomic<int> caught{0};

// SIGUSR1 is counted, and does not restart what it interrupts.
class Interruptions {
public:
    Interruptions() {
        struct sigaction action = {};
        action.sa_handler = [](int) { caught++; };
        sigaction(SIGUSR1, &action, &before_);
    }
    ~Interruptions() { sigaction(SIGUSR1, &before_, nullptr); }

private:
    struct sigaction before_;
};

// Runs a call that blocks, interrupts it three times, sees it block again each time, and then lets it end.
template <class Call, class Supply>
auto interrupted(long number, Call call, Supply supply) {
    std::atomic<pid_t> id{0};
    decltype(call()) result{};
    int error = 0;
    std::thread caller([&] {
        id = static_cast<pid_t>(syscall(SYS_gettid));
        result = call();
        error = errno;
    });
    bool well = eventually([&] { return id != 0 && process::blocked_in(getpid(), id) == number; });
    for (int i = 0; well && i < 3; i++) {
        int before = caught;
        pthread_kill(caller.native_handle(), SIGUSR1);
        // The handler runs outside of the call: blocked after that is blocked anew.
        well = eventually([&] { return caught > before; }) &&
               eventually([&] { return process::blocked_in(getpid(), id) == number; });
    }
    supply();
    caller.join();
    CHECK(well);
    INFO("errno ", error);
    CHECK(result >= 0);
    return result;
}

struct Pair {
    int one, other;
    explicit Pair(int type = SOCK_STREAM) {
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == 0);
        one = fds[0];
        other = fds[1];
    }
    ~Pair() {
        close(one);
        close(other);
    }
    // Nothing more can be written to `one`.
    void fill() const {
        std::string block(65536, 'x');
        while (::send(one, block.data(), block.size(), MSG_DONTWAIT) > 0) {
        }
        while (::send(one, "x", 1, MSG_DONTWAIT) > 0) {
        }
    }
    void drain() const {
        std::string block(65536, 'x');
        while (::recv(other, block.data(), block.size(), MSG_DONTWAIT) > 0) {
        }
    }
};

class Often : public fixture::ForwardingWorld {
public:
    std::atomic<int64_t> interruptions{0};
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        if (++calls_ % 2 == 0)
            return real.epoll_wait(epfd, events, max, timeout_ns);
        interruptions++;
        errno = EINTR;
        return -1;
    }

private:
    std::atomic<int64_t> calls_{0};
};

} // namespace

TEST_CASE("what a signal interrupts is made again: read and write, recv and send, accept and open") {
    Interruptions interruptions;
    parley::sys::world &kernel = parley::sys::kernel();
    char byte = 0;
    struct iovec vector = {&byte, 1};
    SUBCASE("read") {
        Pair pair;
        CHECK(interrupted(
                  SYS_read, [&] { return kernel.read(pair.one, &byte, 1); },
                  [&] { (void)!write(pair.other, "r", 1); }) == 1);
        CHECK(byte == 'r');
    }
    SUBCASE("recv") {
        Pair pair;
        CHECK(interrupted(
                  SYS_recvfrom, [&] { return kernel.recv(pair.one, &byte, 1, 0); },
                  [&] { (void)!write(pair.other, "r", 1); }) == 1);
        CHECK(byte == 'r');
    }
    SUBCASE("recvmsg") {
        Pair pair;
        struct msghdr header = {};
        header.msg_iov = &vector;
        header.msg_iovlen = 1;
        CHECK(interrupted(
                  SYS_recvmsg, [&] { return kernel.recvmsg(pair.one, &header, 0); },
                  [&] { (void)!write(pair.other, "r", 1); }) == 1);
        CHECK(byte == 'r');
    }
    SUBCASE("recvmmsg") {
        Pair pair(SOCK_DGRAM);
        struct mmsghdr message = {};
        message.msg_hdr.msg_iov = &vector;
        message.msg_hdr.msg_iovlen = 1;
        CHECK(interrupted(
                  SYS_recvmmsg, [&] { return kernel.recvmmsg(pair.one, &message, 1, 0); },
                  [&] { (void)!write(pair.other, "r", 1); }) == 1);
        CHECK(byte == 'r');
    }
    SUBCASE("write") {
        Pair pair;
        pair.fill();
        CHECK(interrupted(
                  SYS_write, [&] { return kernel.write(pair.one, "w", 1); }, [&] { pair.drain(); }) == 1);
    }
    SUBCASE("send") {
        Pair pair;
        pair.fill();
        CHECK(interrupted(
                  SYS_sendto, [&] { return kernel.send(pair.one, "w", 1, 0); }, [&] { pair.drain(); }) == 1);
    }
    SUBCASE("sendmsg") {
        Pair pair;
        pair.fill();
        struct msghdr header = {};
        header.msg_iov = &vector;
        header.msg_iovlen = 1;
        CHECK(interrupted(
                  SYS_sendmsg, [&] { return kernel.sendmsg(pair.one, &header, 0); }, [&] { pair.drain(); }) ==
              1);
    }
    SUBCASE("accept") {
        Socket listener = Socket::listening(), client;
        int fd = interrupted(
            SYS_accept4, [&] { return kernel.accept(listener.fd(), nullptr, nullptr); },
            [&] { client = Socket::connected(listener.address()); });
        close(fd);
    }
    SUBCASE("open") {
        char folder[] = "/tmp/parley-test-XXXXXX";
        REQUIRE(mkdtemp(folder) != nullptr);
        std::string fifo = std::string(folder) + "/fifo";
        REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
        int writer = -1;
        int fd = interrupted(
            SYS_openat, [&] { return kernel.open(fifo.c_str(), O_RDONLY, 0); },
            [&] { writer = open(fifo.c_str(), O_WRONLY | O_CLOEXEC); });
        close(fd);
        close(writer);
        std::filesystem::remove_all(folder);
    }
}

TEST_CASE("when every second epoll_wait is interrupted no event is lost and no timer fires twice") {
    Often world;
    fixture::InstalledWorld installed(world);
    for (size_t handlers : {0U, 1U}) {
        Running comm(2, handlers);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Target target(service.address());
        for (int i = 0; i < 100; i++) {
            Ask ask(std::string(static_cast<size_t>(i) * 1000, 'x'));
            REQUIRE(comm.request(&ask, &target) == 0);
            Nap nap(std::chrono::microseconds(i * 20));
            REQUIRE(comm.sleep(&nap) == 0);
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_SUCCESS, 0));
            CHECK(ask.in.text == ask.out.text);
            REQUIRE(nap.done.wait());
            CHECK(nap.is(SS_STATE_COMPLETE, 0));
        }
        REQUIRE(service.finish());
    }
    CHECK(world.interruptions > 100);
}
