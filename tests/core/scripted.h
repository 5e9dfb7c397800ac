// Sessions, services and targets that do what a test tells them and report what happened to them.
// Messages are lines. Everything a test waits for comes through an Inbox.

#pragma once

#include "Communicator.h"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "wire.h"

namespace scripted {

// How a session ended.
struct End {
    int state;
    int error;
    int cause;
    long long seq;

    bool operator==(const End &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const End &end) {
        return out << "{state " << end.state << ", error " << end.error << ", cause " << end.cause << ", seq "
                   << end.seq << "}";
    }
};

// A string, or whatever `script` fills in.
class Text : public CommMessageOut {
public:
    std::string text;
    std::function<int(struct iovec *, int)> script;
    int encoded = 0;

    Text() = default;
    explicit Text(std::string what) : text(std::move(what)) {}

private:
    int encode(struct iovec vectors[], int max) override {
        encoded++;
        if (script)
            return script(vectors, max);
        vectors[0] = {text.data(), text.size()};
        return 1;
    }
};

// Takes bytes up to a newline, or as `script` says.
class Line : public CommMessageIn {
public:
    std::string text;
    std::function<int(const char *, size_t *)> script;
    std::function<void *(size_t *)> room;
    int calls = 0;

    int take(const char *bytes, size_t *size) {
        const void *newline = memchr(bytes, '\n', *size);
        if (newline != nullptr)
            *size = static_cast<size_t>(static_cast<const char *>(newline) - bytes) + 1;
        text.append(bytes, *size);
        return newline != nullptr;
    }

    using CommMessageIn::feedback;
    using CommMessageIn::renew;

private:
    int append(const void *buf, size_t *size) override {
        calls++;
        auto *bytes = static_cast<const char *>(buf);
        return script ? script(bytes, size) : take(bytes, size);
    }
    void *reserve(size_t *size) override {
        *size = 0;
        return room ? room(size) : nullptr;
    }
};

// Births and deaths of connection objects.
struct Census {
    std::atomic<int> born{0};
    std::atomic<int> dead{0};
    wire::Inbox<int> deaths; // the number of each one that dies
};

class Conn : public CommConnection {
public:
    explicit Conn(std::shared_ptr<Census> census) : number(census->born++), census_(std::move(census)) {}
    ~Conn() override {
        census_->dead++;
        census_->deaths.put(number);
    }

    const int number; // from 0, in the order of birth

private:
    std::shared_ptr<Census> census_; // outlives a target whose idle connections close later
};

struct Timeouts {
    int send = -1;
    int receive = -1;
    int keep_alive = -1;
    int first = 0;
};

// A Communicator for the length of a test.
class Net {
public:
    explicit Net(size_t loops = 1, size_t handlers = 0) { REQUIRE(comm.init(loops, handlers) == 0); }
    ~Net() { comm.deinit(); }

    // Runs `work` on a loop and returns when it is done.
    template <class Work>
    void on(size_t loop, Work work) {
        struct Node : CommNode {
            Work *work;
            wire::Inbox<bool> done;
        } node;
        node.work = &work;
        node.run = [](CommNode *self) {
            auto *mine = static_cast<Node *>(self);
            (*mine->work)();
            mine->done.put(true);
        };
        REQUIRE(comm.loop(loop)->post(&node) == 0);
        node.done.take();
    }
    template <class Work>
    void on_loop(Work work) {
        on(0, work);
    }
    // Returns when the loop has done what it had to do when this was called.
    void settle(size_t loop = 0) {
        for (int i = 0; i < 3; i++)
            on(loop, [] {});
    }

    // Keeps a loop busy from now until unblock().
    void block(size_t loop) {
        gate_.run = [](CommNode *node) {
            auto *gate = static_cast<Gate *>(node);
            gate->entered.put(true);
            gate->open.take();
        };
        REQUIRE(comm.loop(loop)->post(&gate_) == 0);
        gate_.entered.take();
    }
    void unblock() { gate_.open.put(true); }

    Communicator comm;

private:
    struct Gate : CommNode {
        wire::Inbox<bool> entered, open;
    } gate_;
};

class Service;

// A service's session. It deletes itself after its last handle(); who takes it from at_request and
// does not reply (or fails to) deletes it.
class Served : public CommSession {
public:
    explicit Served(Service &service);
    ~Served() override;

    int reply(std::string text);

    long long seq() const { return get_seq(); }
    CommTarget *target() const { return get_target(); }
    Conn *connection() const { return static_cast<Conn *>(get_connection()); }
    CommMessageIn *message() const { return get_message_in(); }
    const std::string &asked() const { return in.text; }

    Service &service;
    Text out;
    Line in;
    Timeouts timeouts;
    CommMessageOut *give_out = &out; // nullptr: message_out() fails with give_errno
    CommMessageIn *give_in = &in;
    int give_errno = 0;
    bool in_place = false;
    bool stays = false; // does not delete itself
    std::function<void(Served *)> at_peer_closed, at_half_closed;

private:
    CommMessageOut *message_out() override {
        errno = give_errno;
        return give_out;
    }
    CommMessageIn *message_in() override {
        errno = give_errno;
        return give_in;
    }
    int send_timeout() override { return timeouts.send; }
    int receive_timeout() override { return timeouts.receive; }
    int keep_alive_timeout() override { return timeouts.keep_alive; }
    int first_timeout() override { return timeouts.first; }
    bool handle_in_place() override { return in_place; }
    void handle_peer_closed() override {
        if (at_peer_closed)
            at_peer_closed(this);
    }
    void handle_half_closed() override {
        if (at_half_closed)
            at_half_closed(this);
    }
    void handle(int state, int error) override;
};

// Echoes lines, unless told otherwise. Set it up, start() it; the destructor unbinds it and waits.
class Service : public CommService {
public:
    explicit Service(Communicator &on, wire::Address at = wire::Address::loopback(), int response_ms = -1,
                     int listen_ms = -1)
        : comm(on) {
        init(at.get(), at.size, listen_ms, response_ms);
    }
    ~Service() override { stop(); }

    void start() {
        REQUIRE(comm.bind(this) == 0);
        bound_ = true;
        address_.size = sizeof address_.storage;
        REQUIRE(get_local_addr(address_.get(), &address_.size) == 0);
    }
    void stop() {
        if (!bound_)
            return;
        comm.unbind(this);
        unbound.take();
        bound_ = false;
    }
    const wire::Address &address() const { return address_; }

    // Service's side of these is small, so that a slow reader is felt soon.
    void use_small_buffers() { send_buffer_ = 4096; }

    Communicator &comm;
    std::function<void(Served *)> at_birth; // in new_session()
    std::function<void(Served *)> at_request = [](Served *session) { session->reply(session->asked()); };
    std::function<void(Served *, const End &)> at_end; // in the last handle(), before it deletes itself
    std::function<CommSession *(long long, CommConnection *)> make_session;
    wire::Inbox<End> ends;
    wire::Inbox<Served *> requests; // for at_request = hold()
    wire::Inbox<int> stops;
    wire::Inbox<bool> unbound;
    std::shared_ptr<Census> connections = std::make_shared<Census>();
    Census sessions;
    int pipeline = 1;
    bool at_connect = false;

    std::function<void(Served *)> hold() {
        return [this](Served *session) { requests.put(session); };
    }

private:
    CommSession *new_session(long long seq, CommConnection *conn) override {
        if (make_session)
            return make_session(seq, conn);
        auto *session = new Served(*this);
        if (at_birth)
            at_birth(session);
        return session;
    }
    CommConnection *new_connection(int fd) override {
        if (send_buffer_ > 0)
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_, sizeof send_buffer_);
        return new Conn(connections);
    }
    void handle_stop(int error) override { stops.put(error); }
    void handle_unbound() override { unbound.put(true); }
    bool session_at_connect() override { return at_connect; }
    int max_pipeline() override { return pipeline; }

    wire::Address address_;
    int send_buffer_ = 0;
    bool bound_ = false;
};

inline Served::Served(Service &owner) : service(owner) {
    owner.sessions.born++;
}
inline Served::~Served() {
    service.sessions.dead++;
}
inline int Served::reply(std::string text) {
    out.text = std::move(text);
    return service.comm.reply(this);
}
inline void Served::handle(int state, int error) {
    if (state == CS_STATE_TOREPLY) {
        service.at_request(this);
        return;
    }
    End end = {state, error, get_cause(), get_seq()};
    Service &owner = service;
    if (owner.at_end)
        owner.at_end(this, end);
    bool goes = !stays;
    owner.ends.put(end); // before the delete, which may let the service go
    if (goes)
        delete this;
}

class Target : public CommTarget {
public:
    explicit Target(const wire::Address &to, int connect_ms = -1, int response_ms = -1) {
        init(to.get(), to.size, connect_ms, response_ms);
    }

    void release() override { released++; }

    std::atomic<int> released{0};
    std::shared_ptr<Census> connections = std::make_shared<Census>();
    int connect_errno = 0;        // create_connect_fd() fails with it
    int new_connection_errno = 0; // so does new_connection()
    int send_buffer = 0;

private:
    int create_connect_fd() override {
        if (connect_errno != 0) {
            errno = connect_errno;
            return -1;
        }
        const struct sockaddr *to;
        socklen_t size;
        get_addr(&to, &size);
        int fd = parley::sys::socket(to->sa_family, SOCK_STREAM, 0);
        if (send_buffer > 0)
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
        return fd;
    }
    CommConnection *new_connection(int) override {
        if (new_connection_errno != 0) {
            errno = new_connection_errno;
            return nullptr;
        }
        return new Conn(connections);
    }
};

// A client's session: sends a line, awaits a line.
class Client : public CommSession {
public:
    explicit Client(std::string text = "ping\n") : out(std::move(text)) {}

    End end() { return ends.take(); }

    long long seq() const { return get_seq(); }
    CommTarget *target() const { return get_target(); }
    Conn *connection() const { return static_cast<Conn *>(get_connection()); }
    CommMessageOut *message_sent() const { return get_message_out(); }
    CommMessageIn *message_received() const { return get_message_in(); }
    const std::string &answer() const { return in.text; }

    Text out;
    Line in;
    Timeouts timeouts;
    CommMessageOut *give_out = &out;
    CommMessageIn *give_in = &in;
    int give_errno = 0;
    bool in_place = false;
    bool may_retry = false;
    std::atomic<int> outs{0}; // calls of message_out()
    wire::Inbox<End> ends;
    std::function<void(Client *, const End &)> at_end; // in handle(), before `ends` has it

private:
    CommMessageOut *message_out() override {
        outs++;
        errno = give_errno;
        return give_out;
    }
    CommMessageIn *message_in() override {
        errno = give_errno;
        in.text.clear();
        return give_in;
    }
    int send_timeout() override { return timeouts.send; }
    int receive_timeout() override { return timeouts.receive; }
    int keep_alive_timeout() override { return timeouts.keep_alive; }
    int first_timeout() override { return timeouts.first; }
    bool handle_in_place() override { return in_place; }
    bool retriable() override { return may_retry; }
    void handle(int state, int error) override {
        End how = {state, error, get_cause(), get_seq()};
        if (at_end)
            at_end(this, how);
        ends.put(how);
    }
};

inline const End success(long long seq) {
    return {CS_STATE_SUCCESS, 0, CC_NONE, seq};
}

} // namespace scripted
