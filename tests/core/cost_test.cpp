// What one turn on a warm connection, and a connection itself, cost: calls of the system, allocations
// and locks, counted on the loop's thread between two of its own callbacks.

#include "scripted.h"

#include <dlfcn.h>
#include <pthread.h>

#include "CommScheduler.h"
#include "forwarding_world.h"

// Sanitizers have a malloc and a mutex of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_LIBC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_LIBC 0
#endif
#endif
#ifndef COUNTS_LIBC
#define COUNTS_LIBC 1
#endif

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

struct Calls {
    long recv = 0, send = 0, epoll_ctl = 0, wake = 0, memory = 0, lock = 0;

    Calls operator-(const Calls &before) const {
        return {recv - before.recv, send - before.send,     epoll_ctl - before.epoll_ctl,
                wake - before.wake, memory - before.memory, lock - before.lock};
    }
    bool operator==(const Calls &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const Calls &calls) {
        return out << "{recv " << calls.recv << ", send " << calls.send << ", epoll_ctl " << calls.epoll_ctl
                   << ", wake " << calls.wake << ", memory " << calls.memory << ", lock " << calls.lock
                   << "}";
    }
};

thread_local Calls made; // by this thread

struct CountingWorld : fixture::ForwardingWorld {
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        made.recv++;
        return real.recv(fd, buffer, size, flags);
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        made.recv++;
        return real.recvmsg(fd, message, flags);
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        made.send++;
        return real.send(fd, buffer, size, flags);
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        made.send++;
        return real.sendmsg(fd, message, flags);
    }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        made.epoll_ctl++;
        return real.epoll_ctl(epfd, operation, fd, event);
    }
    ssize_t write(int fd, const void *buffer, size_t size) override {
        made.wake++; // the core writes to nothing but its eventfds
        return real.write(fd, buffer, size);
    }
};

// For as long as a test needs it.
class Counting {
    CountingWorld world_;
    fixture::InstalledWorld installed_{world_};
};

// One byte there, one byte back, without memory of its own.
class Byte : public CommMessageIn, public CommMessageOut {
    int encode(struct iovec vectors[], int) override {
        vectors[0] = {&byte_, 1};
        return 1;
    }
    int append(const void *buf, size_t *size) override {
        byte_ = *static_cast<const char *>(buf);
        *size = 1;
        return 1;
    }
    char byte_ = 'x';
};

constexpr int warm = 100, measured = 200;

// Whose turns have all the same session; counts from the handle() of turn `warm` to that of turn
// `measured`. One connection at a time, which has gone when this goes.
class ByteService : public CommService {
public:
    explicit ByteService(Communicator &on) : comm_(on), session_(new Session(*this)) {
        wire::Address at = wire::Address::loopback();
        init(at.get(), at.size, -1, -1);
        REQUIRE(comm_.bind(this) == 0);
        address_.size = sizeof address_.storage;
        REQUIRE(get_local_addr(address_.get(), &address_.size) == 0);
    }
    ~ByteService() override {
        session_.reset(); // it holds the service
        comm_.unbind(this);
        unbound_.take();
    }
    const wire::Address &address() const { return address_; }

    Calls before, after;

private:
    class Session : public CommSession {
    public:
        explicit Session(ByteService &owner) : service_(owner) {}

    private:
        CommMessageOut *message_out() override { return &byte_; }
        CommMessageIn *message_in() override { return &byte_; }
        int keep_alive_timeout() override { return -1; }
        void handle(int state, int) override {
            if (state != CS_STATE_TOREPLY)
                return;
            if (get_seq() == warm)
                service_.before = made;
            if (get_seq() == measured)
                service_.after = made;
            service_.comm_.reply(this);
        }
        ByteService &service_;
        Byte byte_;
    };

    CommSession *new_session(long long, CommConnection *) override { return session_.get(); }
    void handle_unbound() override { unbound_.put(true); }

    Communicator &comm_;
    std::unique_ptr<Session> session_;
    wire::Address address_;
    wire::Inbox<bool> unbound_;
};

// Asks again as soon as it is answered, `measured` times.
class ByteClient : public CommSession {
public:
    std::function<int(CommSession *)> ask;
    Calls before, after;
    wire::Inbox<int> over;

private:
    CommMessageOut *message_out() override { return &byte_; }
    CommMessageIn *message_in() override { return &byte_; }
    int keep_alive_timeout() override { return -1; }
    void handle(int state, int) override {
        if (get_seq() == warm)
            before = made;
        if (get_seq() == measured)
            after = made;
        if (state != CS_STATE_SUCCESS || get_seq() == measured || ask(this) < 0)
            over.put(state);
    }
    Byte byte_;
};

const Calls turn = {1, 1, 0, 0, 0, 0};

Calls times(int n, const Calls &one) {
    return {n * one.recv, n * one.send, n * one.epoll_ctl, n * one.wake, n * one.memory, n * one.lock};
}

} // namespace

#if COUNTS_LIBC
extern "C" void *__libc_malloc(size_t size);
extern "C" void *malloc(size_t size) noexcept {
    made.memory++;
    return __libc_malloc(size);
}
extern "C" int pthread_mutex_lock(pthread_mutex_t *mutex) noexcept {
    static constinit std::atomic<int (*)(pthread_mutex_t *)> real{nullptr};
    auto lock = real.load(std::memory_order_relaxed);
    if (lock == nullptr) {
        lock = reinterpret_cast<int (*)(pthread_mutex_t *)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
        real.store(lock, std::memory_order_relaxed);
    }
    made.lock++;
    return lock(mutex);
}
#endif

TEST_CASE("what is counted here counts" * doctest::skip(!COUNTS_LIBC)) {
    Calls before = made;
    std::mutex mutex;
    mutex.lock();
    mutex.unlock();
    free(malloc(made.memory > 0 ? 1 : 2)); // of a size that no compiler can drop
    CHECK((made - before).lock == 1);
    CHECK((made - before).memory == 1);
}

TEST_CASE("a warm turn of a service is one recv() and one send(): no epoll_ctl, no wake-up, no allocation, "
          "no lock") {
    Counting counting;
    Net net;
    ByteService service(net.comm);
    Peer peer(service.address());
    for (int i = 0; i <= measured; i++) {
        peer.send("x");
        CHECK(peer.read(1) == "x");
    }
    net.settle();
    CHECK(service.after - service.before == times(measured - warm, turn));
}

TEST_CASE("a warm turn of a client is one send() and one recv(): no epoll_ctl, no wake-up, no allocation, "
          "no lock") {
    Counting counting;
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    {
        Listener listener;
        Target plain(listener.address());
        CommSchedTarget limited;
        REQUIRE(limited.init(listener.address().get(), listener.address().size, -1, -1, 1) == 0);
        ByteClient client;
        CommTarget *used = nullptr;
        SUBCASE("asked of the Communicator") {
            client.ask = [&](CommSession *self) { return scheduler.communicator().request(self, &plain); };
        }
        SUBCASE("asked of a scheduler") {
            client.ask = [&](CommSession *self) { return scheduler.request(self, &limited, 0, &used); };
        }
        REQUIRE(client.ask(&client) == 0);
        Peer peer = listener.accept();
        for (int i = 0; i <= measured; i++) {
            CHECK(peer.read(1) == "x");
            peer.send("x");
        }
        CHECK(client.over.take() == CS_STATE_SUCCESS);
        CHECK(client.after - client.before == times(measured - warm, turn));
        scheduler.deinit();
    }
}

TEST_CASE("a reply that waits for room, and what is read meanwhile, change nothing in epoll") {
    Counting counting;
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.pipeline = 2;
    std::string large(size_t{1} << 20, 'x');
    long before = -1, after = -1, sends = 0;
    service.at_request = [&](Served *session) {
        if (session->seq() > 0) {
            service.requests.put(session);
            return;
        }
        before = made.epoll_ctl;
        sends = made.send;
        session->reply(large);
    };
    service.at_end = [&](Served *, const End &) {
        after = made.epoll_ctl;
        sends = made.send - sends;
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("one\ntwo\n");
    Served *second = service.requests.take(); // read, though the first one's answer waits
    CHECK((peer.read(large.size()) == large));
    CHECK(service.ends.take() == success(0));
    CHECK(after - before == 0);
    CHECK(sends > 1); // it did wait
    CHECK(second->reply("end\n") == 0);
    CHECK(peer.line() == "end\n");
}

TEST_CASE("a connection is registered once and allocated once, beside the user's own object") {
    Counting counting;
    Net net;
    struct Guest : CommConnection {
        std::atomic<int> *gone;
        ~Guest() override { (*gone)++; }
    };
    struct Hotel : CommService {
        std::vector<Calls> seen; // by each newcomer, so that differences hold whole lives
        std::atomic<int> gone{0};
        wire::Inbox<bool> unbound;

        CommSession *new_session(long long, CommConnection *) override { return nullptr; }
        CommConnection *new_connection(int) override {
            seen.push_back(made);
            auto *guest = new Guest;
            guest->gone = &gone;
            return guest;
        }
        void handle_unbound() override { unbound.put(true); }
    } hotel;
    hotel.seen.reserve(measured + 1);
    wire::Address at = wire::Address::loopback();
    hotel.init(at.get(), at.size, -1, -1);
    REQUIRE(net.comm.bind(&hotel) == 0);
    at.size = sizeof at.storage;
    REQUIRE(hotel.get_local_addr(at.get(), &at.size) == 0);
    for (int i = 0; i <= measured; i++) {
        Peer peer(at);
        wire::until([&] { return net.comm.loop(0)->connections() == 1; });
        peer.close();
        wire::until([&] { return hotel.gone == i + 1; });
    }
    Calls lives = hotel.seen[measured] - hotel.seen[warm];
    constexpr int n = measured - warm;
    CHECK(lives.epoll_ctl == 2 * n);
    CHECK(lives.memory == (COUNTS_LIBC ? 2 * n : 0));
    CHECK(lives.lock == 0);
    CHECK(lives.wake == 0);
    net.comm.unbind(&hotel);
    hotel.unbound.take();
}
