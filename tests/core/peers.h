// What the tests of the callback core talk to: a signal to wait for, a message that is one line, a client
// session and a line service made of functions, and plain blocking sockets for the other end of the wire.
// Every wait has a guard of ten seconds: a hang is a failed test, never a stuck one.

#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "Communicator.h"

namespace peers {

using namespace std::chrono_literals;
constexpr auto guard = 10s;

// Something that happens, perhaps several times.
class Signal {
public:
    void set() {
        std::lock_guard lock(mutex_);
        count_++;
        changed_.notify_all(); // under the lock: the waiter may destroy this at once
    }
    int count() const {
        std::lock_guard lock(mutex_);
        return count_;
    }
    // False when it has not happened n times within the guard.
    [[nodiscard]] bool wait(int n = 1) const {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, guard, [&] { return count_ >= n; });
    }

private:
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    int count_ = 0;
};

// For what the kernel shows and nobody announces: descriptors, threads, counters.
template <class Predicate>
[[nodiscard]] bool eventually(Predicate holds) {
    auto end = std::chrono::steady_clock::now() + guard;
    while (!holds()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(1ms);
    }
    return true;
}

inline size_t entries_of(const char *path) {
    DIR *dir = opendir(path);
    size_t n = 0;
    while (dir != nullptr && readdir(dir) != nullptr)
        n++;
    if (dir != nullptr)
        closedir(dir);
    return n;
}
inline size_t open_descriptors() {
    return entries_of("/proc/self/fd");
}
inline size_t running_threads() {
    // A sanitizer's own thread starts with the first one: not between two looks. The kernel lists a thread that was
    // joined for a moment more: it must not be counted either.
    static const bool started = [] {
        pid_t id = 0;
        std::thread([&] { id = gettid(); }).join();
        const std::string entry = "/proc/self/task/" + std::to_string(id);
        return eventually([&] { return access(entry.c_str(), F_OK) != 0; });
    }();
    return started ? entries_of("/proc/self/task") : 0;
}

struct Address {
    struct sockaddr_storage storage = {};
    socklen_t size = 0;

    const struct sockaddr *get() const { return reinterpret_cast<const struct sockaddr *>(&storage); }
    struct sockaddr *get() { return reinterpret_cast<struct sockaddr *>(&storage); }
    uint16_t port() const {
        return ntohs(storage.ss_family == AF_INET6
                         ? reinterpret_cast<const struct sockaddr_in6 *>(&storage)->sin6_port
                         : reinterpret_cast<const struct sockaddr_in *>(&storage)->sin_port);
    }
};

inline Address loopback(uint16_t port = 0) {
    Address address;
    auto *in = reinterpret_cast<struct sockaddr_in *>(&address.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.size = sizeof *in;
    return address;
}

inline Address loopback6() {
    Address address;
    auto *in = reinterpret_cast<struct sockaddr_in6 *>(&address.storage);
    in->sin6_family = AF_INET6;
    in->sin6_addr = in6addr_loopback;
    address.size = sizeof *in;
    return address;
}

// A leading '@' makes it abstract.
inline Address unix_path(std::string_view path) {
    Address address;
    auto *un = reinterpret_cast<struct sockaddr_un *>(&address.storage);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.data(), path.size());
    if (path[0] == '@')
        un->sun_path[0] = '\0';
    address.size = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size() +
                                          (path[0] == '@' ? 0 : 1));
    return address;
}

inline Address local_address(const CommService &service) {
    Address address;
    address.size = sizeof address.storage;
    if (service.get_local_addr(address.get(), &address.size) < 0)
        address.size = 0;
    return address;
}

inline Address local_address(int fd) {
    Address address;
    address.size = sizeof address.storage;
    if (getsockname(fd, address.get(), &address.size) < 0)
        address.size = 0;
    return address;
}

// A blocking socket that gives up after the guard. The other end of what is tested.
class Socket {
public:
    Socket() = default;
    explicit Socket(int fd) : fd_(fd) {
        struct timeval limit = {10, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    Socket(Socket &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Socket &operator=(Socket &&other) noexcept {
        close();
        fd_ = std::exchange(other.fd_, -1);
        return *this;
    }
    ~Socket() { close(); }

    static Socket connected(const Address &to, int type = SOCK_STREAM) {
        Socket made(::socket(to.storage.ss_family, type | SOCK_CLOEXEC, 0));
        if (::connect(made.fd_, to.get(), to.size) < 0)
            made.close();
        return made;
    }
    static Socket listening(const Address &at = loopback(), int backlog = 128) {
        Socket made(::socket(at.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (::bind(made.fd_, at.get(), at.size) < 0 || ::listen(made.fd_, backlog) < 0)
            made.close();
        return made;
    }
    Socket accepted() const { return Socket(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)); }

    explicit operator bool() const { return fd_ >= 0; }
    int fd() const { return fd_; }
    Address address() const { return local_address(fd_); }

    bool send(std::string_view data) const {
        while (!data.empty()) {
            ssize_t n = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
            if (n <= 0)
                return false;
            data.remove_prefix(static_cast<size_t>(n));
        }
        return true;
    }
    // Exactly n bytes; fewer when the peer ended first.
    std::string receive(size_t n) const {
        std::string data;
        char buffer[65536];
        while (data.size() < n) {
            ssize_t got = ::recv(fd_, buffer, std::min(sizeof buffer, n - data.size()), 0);
            if (got <= 0)
                break;
            data.append(buffer, static_cast<size_t>(got));
        }
        return data;
    }
    // All until the peer's end.
    std::string rest() const { return receive(SIZE_MAX); }
    // The peer has closed (or reset), with nothing more said.
    bool at_end() const {
        char byte;
        ssize_t n = ::recv(fd_, &byte, 1, 0);
        return n == 0 || (n < 0 && errno == ECONNRESET);
    }
    // Nothing to read and no end, now.
    bool quiet() const {
        char byte;
        return ::recv(fd_, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
    }
    void finish() const { ::shutdown(fd_, SHUT_WR); }
    void reset() {
        struct linger now = {1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }
    void close() {
        if (fd_ >= 0)
            ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

// One line of text; as a message either way.
class Line : public CommMessageIn, public CommMessageOut {
public:
    std::string text; // without its newline

    Line() = default;
    explicit Line(std::string content) : text(std::move(content)) {}

private:
    int encode(struct iovec vectors[], int) override {
        static char newline = '\n';
        vectors[0] = {text.data(), text.size()};
        vectors[1] = {&newline, 1};
        return 2;
    }
    int append(const void *buf, size_t *size) override {
        const char *data = static_cast<const char *>(buf);
        const void *end = memchr(data, '\n', *size);
        if (end == nullptr) {
            text.append(data, *size);
            return 0;
        }
        size_t n = static_cast<size_t>(static_cast<const char *>(end) - data);
        text.append(data, n);
        *size = n + 1;
        return 1;
    }
};

// A request: a line out, a line in. What it ended with can be read once done has been set.
class Ask : public CommSession {
public:
    Line out, in;
    Signal started; // message_out() was called
    Signal done;
    std::atomic<int> handled{0};
    int state = -1, error = -1, cause = -1;
    long long seq = -1;
    std::thread::id thread;
    int keep_alive = 60000, receive = -1, send = -1;
    bool stay = false;
    std::function<void(Ask &)> then; // inside handle(), before done

    explicit Ask(std::string text) : out(std::move(text)) {}
    bool is(int expected_state, int expected_error) const {
        return state == expected_state && error == expected_error && handled == 1;
    }

private:
    CommMessageOut *message_out() override {
        started.set();
        return &out;
    }
    CommMessageIn *message_in() override { return &in; }
    int send_timeout() override { return send; }
    int receive_timeout() override { return receive; }
    int keep_alive_timeout() override { return keep_alive; }
    bool handle_in_place() override { return stay; }
    void handle(int result, int code) override {
        state = result;
        error = code;
        cause = get_cause();
        seq = get_seq();
        thread = std::this_thread::get_id();
        handled++;
        if (then)
            then(*this);
        done.set();
    }
};

class Lines;

// A service's side of one exchange. Deletes itself when it is over, unless a test keeps it.
class Served : public CommSession {
public:
    Lines &service;
    Line in, out;
    int keep_alive = 60000;
    bool kept = false; // the test deletes it

    explicit Served(Lines &owner);
    ~Served() override;

    // In: the connection and the peer, as the session sees them.
    CommConnection *connection() const { return get_connection(); }
    bool peer_there() const { return get_target()->has_idle_conn() != 0; }
    long long sequence() const { return get_seq(); }
    const SSL *ssl() const { return get_ssl(); }
    Address peer() const {
        const struct sockaddr *addr;
        Address copy;
        get_target()->get_addr(&addr, &copy.size);
        memcpy(&copy.storage, addr, copy.size);
        return copy;
    }
    int local(Address &here) const {
        here.size = sizeof here.storage;
        return get_local_addr(here.get(), &here.size);
    }

private:
    CommMessageOut *message_out() override { return &out; }
    CommMessageIn *message_in() override;
    int keep_alive_timeout() override { return keep_alive; }
    bool handle_in_place() override;
    void handle(int state, int error) override;
};

// A service that echoes lines, and whose every hook a test may replace before bind().
class Lines : public CommService {
public:
    struct Connection : CommConnection {
        Lines &service;
        explicit Connection(Lines &owner) : service(owner) { service.alive++; }
        ~Connection() override {
            service.alive--;
            service.gone.set();
        }
    };

    std::atomic<int> alive{0};    // connections
    std::atomic<int> sessions{0}; // objects
    Signal connected, gone, receiving, requests, ended, stopped, unbound;
    std::atomic<int> stop_error{-1};

    std::function<CommConnection *(int)> on_connection;
    std::function<CommSession *(long long)> on_session;
    std::function<void(Served &)> on_request;                   // TOREPLY; default: echo
    std::function<void(Served &, int state, int error)> on_end; // any other completion, before deletion
    std::function<int()> listen_fd;
    std::function<void(int)> on_stop;
    std::function<void()> on_unbound;
    int pipeline = 1;
    bool early = false, stay = false;
    bool hold = false; // requests wait for take() instead
    Communicator *communicator = nullptr;

    int start(Communicator &comm, const Address &at = loopback(), int response = -1, CommLoop *loop = nullptr,
              int lifetime = -1) {
        communicator = &comm;
        if (init(at.get(), at.size, lifetime, response) < 0)
            return -1;
        return loop != nullptr ? comm.bind(this, loop) : comm.bind(this);
    }
    [[nodiscard]] bool finish() {
        communicator->unbind(this);
        return unbound.wait();
    }
    Address address() const { return local_address(*this); }
    // The oldest request that was held and not yet taken; nullptr when none comes within the guard.
    Served *take() {
        if (!requests.wait(++taken_))
            return nullptr;
        std::lock_guard lock(mutex_);
        Served *first = waiting_.front();
        waiting_.erase(waiting_.begin());
        return first;
    }
    using CommService::decref;
    using CommService::incref;
    using CommService::set_ssl;

private:
    friend class Served;
    CommConnection *new_connection(int fd) override {
        CommConnection *made = on_connection ? on_connection(fd) : new Connection(*this);
        connected.set();
        return made;
    }
    CommSession *new_session(long long seq, CommConnection *) override {
        return on_session ? on_session(seq) : new Served(*this);
    }
    int create_listen_fd() override {
        const struct sockaddr *at;
        socklen_t size;
        get_addr(&at, &size);
        return listen_fd ? listen_fd() : parley::sys::socket(at->sa_family, SOCK_STREAM, 0);
    }
    int max_pipeline() override { return pipeline; }
    bool session_at_connect() override { return early; }
    void handle_stop(int error) override {
        stop_error = error;
        if (on_stop)
            on_stop(error);
        stopped.set();
    }
    void handle_unbound() override {
        if (on_unbound)
            on_unbound();
        unbound.set();
    }

    std::mutex mutex_;
    std::vector<Served *> waiting_;
    int taken_ = 0;
};

inline Served::Served(Lines &owner) : service(owner) {
    service.sessions++;
}
inline Served::~Served() {
    service.sessions--;
}
inline CommMessageIn *Served::message_in() {
    service.receiving.set();
    return &in;
}
inline bool Served::handle_in_place() {
    return service.stay;
}
// The signals come first: once the session is gone, so may be the service.
inline void Served::handle(int state, int error) {
    if (state != CS_STATE_TOREPLY) {
        if (service.on_end)
            service.on_end(*this, state, error);
        bool mine = !kept;
        service.ended.set();
        if (mine)
            delete this;
    } else if (service.hold) {
        {
            std::lock_guard lock(service.mutex_);
            service.waiting_.push_back(this);
        }
        service.requests.set();
    } else {
        service.requests.set();
        if (service.on_request) {
            service.on_request(*this);
        } else {
            out.text = in.text;
            if (service.communicator->reply(this) < 0)
                delete this;
        }
    }
}

// A peer to ask. release() is counted.
class Target : public CommTarget {
public:
    std::atomic<int> released{0};
    std::function<int()> connect_fd;

    explicit Target(const Address &to, int connect = -1, int response = -1) {
        init(to.get(), to.size, connect, response);
    }
    using CommTarget::set_ssl;

private:
    int create_connect_fd() override {
        const struct sockaddr *to;
        socklen_t size;
        get_addr(&to, &size);
        return connect_fd ? connect_fd() : parley::sys::socket(to->sa_family, SOCK_STREAM, 0);
    }
    void release() override { released++; }
};

// A timer.
class Nap : public SleepSession {
public:
    struct timespec length;
    Signal done;
    int state = -1, error = -1;
    std::atomic<int> handled{0};
    std::function<void(Nap &)> then;

    explicit Nap(std::chrono::nanoseconds how_long)
        : length{how_long.count() / 1000000000, how_long.count() % 1000000000} {}
    bool is(int expected_state, int expected_error) const {
        return state == expected_state && error == expected_error && handled == 1;
    }

private:
    int duration(struct timespec *value) override {
        *value = length;
        return 0;
    }
    void handle(int result, int code) override {
        state = result;
        error = code;
        handled++;
        if (then)
            then(*this);
        done.set();
    }
};

// Runs a function on a loop.
class Job : public CommNode {
public:
    explicit Job(std::function<void()> function) : work_(std::move(function)) {
        run = [](CommNode *self) {
            auto *job = static_cast<Job *>(self);
            job->work_();
            job->done.set();
        };
    }
    Signal done;

private:
    std::function<void()> work_;
};

// On the loop, and waits for it.
[[nodiscard]] inline bool run_on(CommLoop *loop, std::function<void()> function) {
    Job job(std::move(function));
    return loop->post(&job) == 0 && job.done.wait();
}

// Closed by deinit() when a test leaves early.
struct Running : Communicator {
    explicit Running(size_t loops = 1, size_t handlers = 0) { started = init(loops, handlers) == 0; }
    bool started;
};

} // namespace peers
