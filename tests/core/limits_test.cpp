#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <set>

#include "peers.h"

using namespace peers;

namespace {

// UBSan looks at objects' types through a pipe that it opens when it must: without descriptors it reports
// nonsense.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool needs_descriptors = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool needs_descriptors = true;
#else
constexpr bool needs_descriptors = false;
#endif
#else
constexpr bool needs_descriptors = false;
#endif

// RLIMIT_NOFILE for the life of this.
class Limit {
public:
    explicit Limit(rlim_t soft) {
        getrlimit(RLIMIT_NOFILE, &before_);
        set(soft);
    }
    ~Limit() { setrlimit(RLIMIT_NOFILE, &before_); }
    void set(rlim_t soft) {
        struct rlimit limit = {std::min(soft, before_.rlim_max), before_.rlim_max};
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    void lift() { set(before_.rlim_cur); }

private:
    struct rlimit before_;
};

// The number that the next descriptor but `room` would get, whatever gaps there are below it: with that
// as the limit there are `room` more.
rlim_t next_descriptor(size_t room = 0) {
    std::vector<int> taken;
    while (taken.size() <= room)
        taken.push_back(dup(0));
    for (int fd : taken)
        close(fd);
    return static_cast<rlim_t>(taken.back());
}

uint64_t sum(Communicator &comm, uint64_t CommLoopCounters::*counter) {
    uint64_t total = 0;
    for (size_t i = 0; i < comm.loops(); i++)
        total += comm.loop(i)->counters().*counter;
    return total;
}

std::set<int> descriptors() {
    std::set<int> all;
    DIR *dir = opendir("/proc/self/fd");
    while (struct dirent *entry = readdir(dir))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
            all.insert(atoi(entry->d_name));
    closedir(dir);
    return all;
}

} // namespace

TEST_CASE("out of descriptors who is connected is served on, and all others when there are some again" *
          doctest::skip(needs_descriptors)) {
    for (size_t loops : {1U, 3U}) {
        Running comm(loops);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Address to = service.address();
        Socket before = Socket::connected(to);
        REQUIRE(before.send("x\n"));
        CHECK(before.receive(2) == "x\n");
        std::vector<Socket> clients;
        for (int i = 0; i < 20; i++)
            clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        {
            Limit none(next_descriptor());
            for (auto &client : clients) {
                REQUIRE(connect(client.fd(), to.get(), to.size) == 0);
                REQUIRE(client.send("x\n"));
            }
            REQUIRE(eventually([&] { return sum(comm, &CommLoopCounters::accept_errors) > 0; }));
            REQUIRE(before.send("y\n")); // who is connected is served on
            CHECK(before.receive(2) == "y\n");
        }
        for (auto &client : clients)
            CHECK(client.receive(2) == "x\n");
        CHECK(service.stopped.count() == 0);
        REQUIRE(service.finish());
    }
}

TEST_CASE("a service that rests for want of descriptors can be paused, resumed, drained and unbound" *
          doctest::skip(needs_descriptors)) {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Address to = service.address();
    Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    {
        Limit none(next_descriptor());
        REQUIRE(connect(client.fd(), to.get(), to.size) == 0);
        REQUIRE(eventually([&] { return sum(comm, &CommLoopCounters::accept_errors) > 0; }));
        service.pause_accept();
        service.resume_accept();
        CHECK(service.drain(-1) == 0);
        REQUIRE(service.finish());
    }
    CHECK(service.connected.count() == 0);
    CHECK(client.at_end());
}

TEST_CASE("out of descriptors a request is EMFILE, and works when there are some again" *
          doctest::skip(needs_descriptors)) {
    Running comm(1);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Target target(service.address());
    Ask refused("x"), at_once("x"), fine("x");
    {
        Limit none(next_descriptor());
        REQUIRE(comm.request(&refused, &target) == 0);
        REQUIRE(refused.done.wait());
        CHECK(refused.is(CS_STATE_ERROR, EMFILE));
        REQUIRE(run_on(comm.loop(0), [&] {
            CHECK(comm.request(&at_once, &target) == -1);
            CHECK(errno == EMFILE);
        }));
        CHECK(at_once.handled == 0);
    }
    REQUIRE(comm.request(&fine, &target) == 0);
    REQUIRE(fine.done.wait());
    CHECK(fine.is(CS_STATE_SUCCESS, 0));
    REQUIRE(service.finish());
}

TEST_CASE("out of descriptors init() and bind() fail with EMFILE and leave nothing" *
          doctest::skip(needs_descriptors)) {
    Running comm(3);
    size_t before = open_descriptors(), threads = running_threads();
    for (size_t room = 0; room < 4; room++) {
        Lines service;
        Communicator other;
        int bound, begun, bind_error, init_error;
        {
            Limit few(next_descriptor(room));
            bound = service.start(comm);
            bind_error = errno;
            if (bound < 0) {
                begun = other.init(3, 0);
                init_error = errno;
            } else {
                begun = -1;
                init_error = EMFILE;
            }
        }
        if (room < 3) {
            CHECK(bound == -1);
            CHECK(bind_error == EMFILE);
        } else {
            CHECK(bound == 0);
            REQUIRE(service.finish());
        }
        CHECK(begun == -1);
        CHECK(init_error == EMFILE);
        CHECK(eventually([&] { return open_descriptors() == before; }));
        CHECK(eventually([&] { return running_threads() == threads; }));
    }
}

TEST_CASE("a limit of descriptors that is raised while a Communicator runs counts at once") {
    Limit limit(std::max<rlim_t>(next_descriptor(), 64) + 64);
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    limit.set(2000);
    std::vector<Socket> clients;
    for (int i = 0; i < 500; i++) {
        clients.push_back(Socket::connected(service.address()));
        REQUIRE(clients.back());
        REQUIRE(clients.back().send("x\n"));
    }
    for (auto &client : clients)
        CHECK(client.receive(2) == "x\n");
    REQUIRE(service.finish());
}

TEST_CASE("every descriptor of a Communicator is close-on-exec, also those that overrides gave it") {
    std::set<int> before = descriptors();
    Running comm(3, 2);
    Lines tcp, unix_socket, datagrams, own;
    REQUIRE(tcp.start(comm) == 0);
    REQUIRE(unix_socket.start(comm, unix_path("@parley-cloexec-" + std::to_string(getpid()))) == 0);
    datagrams.listen_fd = [] { return socket(AF_INET, SOCK_DGRAM, 0); };
    REQUIRE(datagrams.start(comm) == 0);
    own.listen_fd = [] { return socket(AF_INET, SOCK_STREAM, 0); };
    REQUIRE(own.start(comm) == 0);
    Target one(tcp.address()), two(own.address()), three(unix_socket.address()), four(datagrams.address());
    two.connect_fd = [] { return socket(AF_INET, SOCK_STREAM, 0); };
    four.connect_fd = [] { return socket(AF_INET, SOCK_DGRAM, 0); };
    for (Target *target : {&one, &two, &three, &four}) {
        Ask ask("x");
        REQUIRE(comm.request(&ask, target) == 0);
        REQUIRE(ask.done.wait());
        REQUIRE(ask.is(CS_STATE_SUCCESS, 0));
    }
    std::set<int> during = descriptors();
    CHECK(during.size() >= before.size() + 3 * 2 + 4 + 7);
    for (int fd : during) {
        INFO("descriptor ", fd);
        if (before.count(fd) == 0)
            CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
    // And so a child that executes something else sees none of them.
    FILE *child = popen("for fd in /proc/self/fd/*; do test -S $fd && echo $fd; done", "r");
    REQUIRE(child != nullptr);
    std::set<std::string> sockets;
    char line[256];
    while (fgets(line, sizeof line, child) != nullptr)
        sockets.insert(line);
    pclose(child);
    for (int fd : during)
        if (before.count(fd) == 0)
            CHECK(sockets.count("/proc/self/fd/" + std::to_string(fd) + "\n") == 0);
    for (Lines *service : {&tcp, &unix_socket, &datagrams, &own})
        REQUIRE(service->finish());
}

TEST_CASE("writing to a peer that is gone raises no SIGPIPE, though its disposition is the default") {
    signal(SIGPIPE, SIG_DFL);
    Running comm(1, 1);
    Lines service;
    service.hold = true;
    REQUIRE(service.start(comm) == 0);
    auto pending = [](CommLoop *loop) {
        int is = -1;
        REQUIRE(run_on(loop, [&] {
            sigset_t set;
            sigpending(&set); // the loop blocks it, so that is where it would be
            is = sigismember(&set, SIGPIPE);
        }));
        return is;
    };
    for (int i = 0; i < 10; i++) {
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        session->out.text.assign(8 << 20, 'x');
        client.reset();
        (void)comm.push("pushed", 6, session);
        if (comm.reply(session) < 0)
            delete session;
        else
            session = nullptr;
    }
    // As a client, too: the peer resets while a large request is being sent.
    Socket listener = Socket::listening();
    Target target(listener.address());
    for (int i = 0; i < 5; i++) {
        Ask ask(std::string(16 << 20, 'x'));
        REQUIRE(comm.request(&ask, &target) == 0);
        Socket peer = listener.accepted();
        CHECK(peer.receive(1) == "x");
        peer.reset();
        REQUIRE(ask.done.wait());
        CHECK(ask.state == CS_STATE_ERROR);
        CHECK((ask.error == ECONNRESET || ask.error == EPIPE));
    }
    CHECK(pending(comm.loop(0)) == 0);
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}

TEST_CASE("a flood of signals disturbs nothing") {
    static std::atomic<int> caught{0};
    struct sigaction action = {}, before;
    action.sa_handler = [](int) { caught++; };
    sigaction(SIGUSR1, &action, &before); // no SA_RESTART
    {
        Running comm(2, 2);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Target target(service.address());
        std::atomic<bool> over{false};
        std::thread flood([&] {
            do {
                kill(getpid(), SIGUSR1);
                std::this_thread::yield();
            } while (!over);
        });
        bool well = true;
        for (int i = 0; i < 300; i++) {
            Ask ask("x");
            well = well && comm.request(&ask, &target) == 0 && ask.done.wait() && ask.is(CS_STATE_SUCCESS, 0);
            Nap nap(0ms);
            well = well && comm.sleep(&nap) == 0 && nap.done.wait();
        }
        over = true;
        flood.join();
        CHECK(well);
        CHECK(eventually([] { return caught > 0; }));
        REQUIRE(service.finish());
    }
    sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("a storm of connections that are reset at once leaves the listener standing and nothing behind") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    size_t before = open_descriptors();
    for (int i = 0; i < 500; i++) {
        Socket client = Socket::connected(service.address());
        REQUIRE(client);
        if (i % 3 == 0)
            (void)client.send("x");
        client.reset();
    }
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(2) == "x\n");
    client.close();
    CHECK(eventually([&] { return open_descriptors() <= before && service.alive == 0; }));
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}
