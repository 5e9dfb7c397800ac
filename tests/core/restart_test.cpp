// Again and again: a process that is killed and started anew on its port, a Communicator that starts and
// stops a thousand times.

#include <doctest/doctest.h>

#include <memory>

#include "child.h"
#include "forwarding_world.h"
#include "peers.h"

using namespace peers;

namespace {

// Holds a port for the test without listening on it: nobody else gets it between two lives of the service,
// and a bind() without SO_REUSEADDR is refused.
class ReservedPort {
public:
    ReservedPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        int one = 1;
        setsockopt(socket_.fd(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        Address any = loopback();
        REQUIRE(::bind(socket_.fd(), any.get(), any.size) == 0);
    }
    Address address() const { return socket_.address(); }

private:
    Socket socket_;
};

class Counting : public fixture::ForwardingWorld {
public:
    std::atomic<int64_t> blocks{0}, threads{0}, descriptors{0};

    void *allocate(size_t size) override {
        blocks++;
        return real.allocate(size);
    }
    void deallocate(void *memory) override {
        blocks -= memory != nullptr;
        real.deallocate(memory);
    }
    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        threads++;
        return real.thread_start(thread, run, argument);
    }
    void thread_join(parley::sys::thread_handle thread) override {
        real.thread_join(thread);
        threads--;
    }
    int epoll_create() override { return opened(real.epoll_create()); }
    int eventfd() override { return opened(real.eventfd()); }
    int socket(int domain, int type, int protocol) override {
        return opened(real.socket(domain, type, protocol));
    }
    int accept(int fd, struct sockaddr *addr, socklen_t *size) override {
        return opened(real.accept(fd, addr, size));
    }
    int close(int fd) override {
        descriptors--;
        return real.close(fd);
    }

private:
    int opened(int fd) {
        descriptors += fd >= 0;
        return fd;
    }
};

} // namespace

TEST_CASE("a service whose process was killed has its port again at once, fifty times over") {
    ReservedPort port;
    Address at = port.address();
    for (int life = 0; life < 50; life++) {
        CAPTURE(life);
        process::Child server([&](process::Child &self) {
            Running comm(2, 1);
            Lines service;
            self.say(service.start(comm, at) == 0 ? "bound" : strerror(errno));
            (void)self.line(); // which never comes
        });
        REQUIRE(server.line() == "bound");
        std::vector<Socket> clients;
        for (int i = 0; i < 4; i++) {
            clients.push_back(Socket::connected(at));
            REQUIRE(clients.back().send("x\n"));
            CHECK(clients.back().receive(2) == "x\n");
        }
        CHECK(clients[0].send("half a requ")); // open connections, one of them in the middle of a request
        server.kill_now();
        CHECK(server.status() == -SIGKILL);
        for (Socket &client : clients)
            CHECK(client.at_end());
    }
}

TEST_CASE(
    "a thousand Communicators start, serve and stop without leaving a descriptor, a thread or a block") {
    Counting world;
    fixture::InstalledWorld installed(world);
    size_t threads = running_threads(), descriptors = open_descriptors();
    for (size_t i = 0; i < 1000; i++) {
        CAPTURE(i);
        Communicator comm;
        REQUIRE(comm.init(1 + i % 2, i % 3) == 0);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        {
            Target target(service.address());
            Ask ask("x");
            REQUIRE(comm.request(&ask, &target) == 0);
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_SUCCESS, 0));
        }
        if (i % 2 == 0)
            REQUIRE(service.finish());
        else // the stop ends it
            service.on_stop = [&](int) { comm.unbind(&service); };
        comm.deinit();
        REQUIRE(service.unbound.wait());
    }
    CHECK(world.blocks == 0);
    CHECK(world.threads == 0);
    CHECK(world.descriptors == 0);
    CHECK(eventually([&] { return running_threads() == threads; }));
    CHECK(open_descriptors() == descriptors);
}
