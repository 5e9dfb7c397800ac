// Sockets that take less than they are given, at every place where that may happen, and that say EAGAIN
// although epoll has just called them ready.

#include "scripted.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>

#include "forwarding_world.h"

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

class Stingy : public fixture::ForwardingWorld {
public:
    // The next sends take that many bytes at most; 0 says EAGAIN. Those behind take all.
    void plan(std::deque<size_t> sizes) {
        std::lock_guard lock(mutex_);
        plan_ = std::move(sizes);
    }
    // Every second recv, send and accept says EAGAIN.
    std::atomic<bool> moody{false};
    std::atomic<int64_t> calls{0}, refusals{0};

    int accept(int fd, struct sockaddr *addr, socklen_t *size) override {
        // A listener is level-triggered: it is reported again.
        if (sulks(accepts_)) {
            errno = EAGAIN;
            return -1;
        }
        return real.accept(fd, addr, size);
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return sulks(receives_) ? refuse(fd) : real.recv(fd, buffer, size, flags);
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return sulks(receives_) ? refuse(fd) : real.recvmsg(fd, message, flags);
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        size_t most = next();
        if (most == 0 || sulks(sends_))
            return refuse(fd);
        return real.send(fd, buffer, std::min(size, most), flags);
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        size_t most = next();
        if (most == 0 || sulks(sends_))
            return refuse(fd);
        std::vector<struct iovec> some;
        for (size_t i = 0; i < message->msg_iovlen && most > 0; i++) {
            some.push_back(message->msg_iov[i]);
            some.back().iov_len = std::min(some.back().iov_len, most);
            most -= some.back().iov_len;
        }
        struct msghdr shorter = *message;
        shorter.msg_iov = some.data();
        shorter.msg_iovlen = some.size();
        return real.sendmsg(fd, &shorter, flags);
    }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        if (operation != EPOLL_CTL_DEL) {
            std::lock_guard lock(mutex_);
            registered_[fd] = {epfd, *event};
        }
        return real.epoll_ctl(epfd, operation, fd, event);
    }

private:
    struct Registration {
        int epfd;
        struct epoll_event event;
    };

    bool sulks(std::atomic<int64_t> &count) {
        calls++;
        return moody && ++count % 2 == 1;
    }
    size_t next() {
        std::lock_guard lock(mutex_);
        if (plan_.empty())
            return SIZE_MAX;
        size_t first = plan_.front();
        plan_.pop_front();
        return first;
    }
    // A socket that says EAGAIN becomes ready again some time later, which is an edge for epoll.
    ssize_t refuse(int fd) {
        refusals++;
        std::lock_guard lock(mutex_);
        auto found = registered_.find(fd);
        if (found != registered_.end())
            real.epoll_ctl(found->second.epfd, EPOLL_CTL_MOD, fd, &found->second.event);
        errno = EAGAIN;
        return -1;
    }

    std::mutex mutex_;
    std::deque<size_t> plan_;
    std::map<int, Registration> registered_;
    std::atomic<int64_t> accepts_{0}, receives_{0}, sends_{0};
};

const std::string parts[] = {"the first,", "", "a second and ", "the last part\n"};
const std::string whole = parts[0] + parts[1] + parts[2] + parts[3];

int scattered(struct iovec *vectors, int) {
    int n = 0;
    for (const std::string &part : parts)
        vectors[n++] = {const_cast<char *>(part.data()), part.size()};
    return n;
}

// What the socket does after it has taken `offset` bytes of a message.
const std::deque<size_t> continuations[] = {{}, {1}, {0}, {0, 0, 1, 0}, {0, 3, 0}};

template <class Exchange>
void at_every_offset(Stingy &world, Exchange exchange) {
    for (const std::deque<size_t> &then : continuations) {
        for (size_t offset = 0; offset < whole.size(); offset++) {
            CAPTURE(offset);
            std::deque<size_t> plan = then;
            plan.push_front(offset);
            world.plan(plan);
            exchange();
        }
    }
}

} // namespace

TEST_CASE("a reply is whole wherever the socket takes only a part of it") {
    Stingy world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.at_request = [](Served *session) {
        session->out.script = scattered;
        session->reply("");
    };
    service.start();
    Peer peer(service.address());
    at_every_offset(world, [&] {
        peer.send("ping\n");
        CHECK(peer.line() == whole);
        CHECK(service.ends.take().state == CS_STATE_SUCCESS);
    });
    CHECK(world.refusals > 0);
}

TEST_CASE("pushed bytes and the reply behind them are whole wherever the socket takes only a part") {
    Stingy world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.at_request = [&](Served *session) {
        CHECK(net.comm.push("pushed\n", 7, session) == 7);
        session->out.script = scattered;
        session->reply("");
    };
    service.start();
    Peer peer(service.address());
    at_every_offset(world, [&] {
        peer.send("ping\n");
        CHECK(peer.line() == "pushed\n");
        CHECK(peer.line() == whole);
        CHECK(service.ends.take().state == CS_STATE_SUCCESS);
    });
}

TEST_CASE("a request is whole wherever the socket takes only a part of it") {
    Stingy world;
    fixture::InstalledWorld installed(world);
    Net net;
    Listener listener;
    Target target(listener.address());
    std::optional<Peer> peer;
    at_every_offset(world, [&] {
        Client client;
        client.out.script = scattered;
        REQUIRE(net.comm.request(&client, &target) == 0);
        if (!peer)
            peer.emplace(listener.accept());
        CHECK(peer->line() == whole);
        peer->send("pong\n");
        CHECK(client.end().state == CS_STATE_SUCCESS);
    });
    CHECK_FALSE(listener.pending()); // one connection for all
}

TEST_CASE("an EAGAIN on a socket that was called ready is waited out, without spinning") {
    Stingy world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    world.moody = true;
    constexpr int n = 200;
    for (int i = 0; i < n; i++) {
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        REQUIRE(client.end() == success(i));
        REQUIRE(client.answer() == "ping\n");
    }
    // Two sides, one recv and one send each, and as many that were refused.
    CHECK(world.refusals >= n);
    CHECK(world.calls <= 10 * n);
    for (int i = 0; i < 5; i++) { // accepted at the second look
        Peer peer(service.address());
        peer.send("hello\n");
        CHECK(peer.line() == "hello\n");
    }
    const std::string large = std::string(size_t{2} << 20, 'x') + "\n";
    Client client(large);
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(n));
    CHECK((client.answer() == large));
    world.moody = false;
}
