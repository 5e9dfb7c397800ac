// Whose turn it is: one connection that floods, or a crowd that connects, does not keep the others from
// theirs. Everything has arrived before the loop looks, so what is checked is the order of its doings and no
// time.

#include "scripted.h"

#include <algorithm>
#include <map>
#include <mutex>

#include <sys/ioctl.h>

#include "forwarding_world.h"

using namespace scripted;
using wire::Peer;

namespace {

// Of one loop: what it read and whom it accepted, turn by turn.
class Ledger : public fixture::ForwardingWorld {
public:
    int accept(int fd, struct sockaddr *addr, socklen_t *size) override {
        int accepted = real.accept(fd, addr, size);
        std::lock_guard lock(mutex_);
        if (accepted >= 0) {
            accepted_.push_back(accepted);
            most_accepts_ = std::max(most_accepts_, ++accepts_);
        }
        return accepted;
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return took(fd, real.recv(fd, buffer, size, flags));
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return took(fd, real.recvmsg(fd, message, flags));
    }
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        {
            std::lock_guard lock(mutex_);
            accepts_ = 0;
            bytes_.clear();
        }
        return real.epoll_wait(epfd, events, max, timeout_ns);
    }

    // The descriptor of the i-th connection that was accepted.
    int accepted(size_t i) const {
        std::lock_guard lock(mutex_);
        return accepted_.at(i);
    }
    size_t accepts() const {
        std::lock_guard lock(mutex_);
        return accepted_.size();
    }
    // In any one turn: of bytes from one connection, and of connections accepted.
    size_t most_bytes() const {
        std::lock_guard lock(mutex_);
        return most_bytes_;
    }
    int most_accepts() const {
        std::lock_guard lock(mutex_);
        return most_accepts_;
    }

private:
    ssize_t took(int fd, ssize_t n) {
        if (n > 0) {
            std::lock_guard lock(mutex_);
            bytes_[fd] += static_cast<size_t>(n);
            most_bytes_ = std::max(most_bytes_, bytes_[fd]);
        }
        return n;
    }

    mutable std::mutex mutex_;
    std::vector<int> accepted_;
    std::map<int, size_t> bytes_;
    size_t most_bytes_ = 0;
    int accepts_ = 0, most_accepts_ = 0;
};

// As much as the kernel takes.
size_t stuff(Peer &peer, std::string_view bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
        ssize_t n = ::send(peer.fd(), bytes.data() + sent, bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += static_cast<size_t>(n);
    }
    return sent;
}

int waiting_in(int fd) {
    int n = 0;
    ioctl(fd, FIONREAD, &n);
    return n;
}

} // namespace

TEST_CASE("a flood of tiny requests lets another connection have its turn after a part of them") {
    Ledger world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    std::string order; // on the loop
    service.at_request = [&](Served *session) {
        order += session->asked() == "calm\n" ? 'c' : 'f';
        session->reply(session->asked());
    };
    service.start();
    Peer flood(service.address()), calm(service.address());
    calm.send("calm\n");
    CHECK(calm.line() == "calm\n");
    net.on_loop([&] { order.clear(); });
    net.block(0);
    size_t sent = stuff(flood, std::string(40000, '\n'));
    wire::until([&] { return waiting_in(world.accepted(0)) >= 20000; });
    calm.send("calm\n");
    net.unblock();
    CHECK(calm.line() == "calm\n");
    flood.read(sent);
    net.on_loop([&] {
        CHECK(order.size() == sent + 1);
        CHECK(order.find('c') < 10000); // of twenty thousand at least that were there before it
    });
}

TEST_CASE("a connection that sends without end is read for at most half a mebibyte a turn") {
    Ledger world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    service.start();
    Peer flood(service.address());
    const std::string large = std::string(size_t{16} << 20, 'x') + "\n";
    std::thread sender([&] { flood.send(large); });
    CHECK((flood.read(large.size()) == large));
    sender.join();
    CHECK(world.most_bytes() <= size_t{512} << 10);
}

TEST_CASE(
    "of a crowd that connects at once at most 64 are accepted a turn, and the others are served between") {
    Ledger world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm);
    size_t before = 0; // accepted when the ping was handled
    service.at_request = [&](Served *session) {
        before = world.accepts();
        session->reply(session->asked());
    };
    service.start();
    Peer calm(service.address());
    calm.send("ping\n");
    CHECK(calm.line() == "ping\n");
    net.block(0);
    constexpr size_t crowd = 300;
    std::deque<Peer> clients;
    for (size_t i = 0; i < crowd; i++)
        clients.emplace_back(service.address()); // connected: the backlog holds it
    calm.send("ping\n");
    net.unblock();
    CHECK(calm.line() == "ping\n");
    wire::until([&] { return world.accepts() == crowd + 1; });
    CHECK(world.most_accepts() <= 64);
    net.on_loop([&] { CHECK(before <= 2 * 64 + 1); });
    clients.back().send("ping\n");
    CHECK(clients.back().line() == "ping\n");
}
