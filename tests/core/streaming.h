// Messages that are used while they come: a head that is a number and a newline, and as many bytes. A service
// that is told when one is announced, and what became of it.

#pragma once

#include "scripted.h"

#include <algorithm>
#include <functional>
#include <string>

namespace streaming {

using scripted::End;
using scripted::Net;
using scripted::Text;

// Hands on what comes as long as `room` lasts.
class Flow : public CommMessageIn {
public:
    size_t room = SIZE_MAX;
    bool announces = true;
    std::function<void(const char *, size_t)> at_bytes;
    std::function<void(int, int)> at_interrupted;
    std::string bytes; // unless there is at_bytes
    size_t taken = 0;
    size_t left = 0;

private:
    int append(const void *buf, size_t *size) override {
        const char *data = static_cast<const char *>(buf);
        size_t used = 0;
        while (!headed_ && used < *size) {
            char next = data[used++];
            if (next != '\n') {
                left = left * 10 + static_cast<size_t>(next - '0');
                continue;
            }
            headed_ = true;
            if (announces)
                announce();
        }
        size_t n = headed_ ? std::min({*size - used, left, room}) : 0;
        if (n > 0) {
            if (at_bytes)
                at_bytes(data + used, n);
            else
                bytes.append(data + used, n);
            left -= n;
            room -= n;
            taken += n;
        }
        *size = used + n;
        if (headed_ && left == 0)
            return 1;
        if (room == 0)
            pause();
        return 0;
    }
    void interrupted(int state, int error) override {
        if (at_interrupted)
            at_interrupted(state, error);
    }

    bool headed_ = false;
};

class Push : public CommPush {
public:
    Push(CommSession *on, std::string text, std::function<void(int, int)> then = nullptr)
        : CommPush(on), out_(std::move(text)), then_(std::move(then)) {}

    // Deletes itself when it is over.
    static int of(Communicator &comm, CommSession *on, std::string text,
                  std::function<void(int, int)> then = nullptr) {
        auto *push = new Push(on, std::move(text), std::move(then));
        int result = comm.push(push);
        if (result != 0)
            delete push;
        return result;
    }

private:
    CommMessageOut *message_out() override { return &out_; }
    void handle(int state, int error) override {
        if (then_)
            then_(state, error);
        delete this;
    }

    Text out_;
    std::function<void(int, int)> then_;
};

class Service;

class Served : public CommSession {
public:
    explicit Served(Service &owner);
    ~Served() override;

    Flow in;
    Text out;
    bool in_place = true;
    int keep_alive = -1;
    int receive = -1;

    int reply(std::string text);
    using CommSession::get_wait;

private:
    CommMessageIn *message_in() override { return &in; }
    CommMessageOut *message_out() override { return &out; }
    bool handle_in_place() override { return in_place; }
    int keep_alive_timeout() override { return keep_alive; }
    int receive_timeout() override { return receive; }
    void handle_peer_closed() override;
    void handle(int state, int error) override;

    Service &service_;
};

// What happened to a session, in order.
struct Event {
    std::string what;
    int state = 0;
    int error = 0;
    int cause = 0;

    bool operator==(const Event &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const Event &e) {
        return out << "{" << e.what << ", state " << e.state << ", error " << e.error << ", cause " << e.cause
                   << "}";
    }
};

class Service : public CommService {
public:
    Service(Communicator &on, int response_ms = -1, SSL_CTX *context = nullptr) : comm(on) {
        wire::Address at = wire::Address::loopback();
        init(at.get(), at.size, -1, response_ms);
        if (context != nullptr)
            set_ssl(context, -1);
    }
    ~Service() override { stop(); }

    void start() {
        REQUIRE(comm.bind(this) == 0);
        bound_ = true;
        address.size = sizeof address.storage;
        REQUIRE(get_local_addr(address.get(), &address.size) == 0);
    }
    void stop() {
        if (bound_) {
            comm.unbind(this);
            unbound_.take();
        }
        bound_ = false;
    }

    Communicator &comm;
    wire::Address address;
    std::function<void(Served *)> at_birth, at_request;
    wire::Inbox<Event> events;
    int alive = 0; // sessions; the loop's
    int pipeline = 1;

private:
    CommSession *new_session(long long, CommConnection *) override {
        auto *session = new Served(*this);
        if (at_birth)
            at_birth(session);
        return session;
    }
    void handle_unbound() override { unbound_.put(true); }
    int max_pipeline() override { return pipeline; }

    wire::Inbox<bool> unbound_;
    bool bound_ = false;
};

inline Served::Served(Service &owner) : service_(owner) {
    service_.alive++;
    in.at_interrupted = [this](int state, int error) {
        service_.events.put({"interrupted", state, error, get_cause()});
    };
}
inline Served::~Served() {
    service_.alive--;
}
inline int Served::reply(std::string text) {
    out.text = std::move(text);
    return service_.comm.reply(this);
}
inline void Served::handle_peer_closed() {
    service_.events.put({"peer closed"});
    delete this;
}
inline void Served::handle(int state, int error) {
    if (state == CS_STATE_TOREPLY) {
        service_.at_request(this);
        return;
    }
    service_.events.put({"end", state, error, get_cause()});
    delete this;
}

// A client's session: a line out, then what is pushed; a Flow back.
class Client : public CommSession {
public:
    explicit Client(std::string text = "go\n") : out(std::move(text)) { in.announces = false; }

    Text out;
    Flow in;
    bool more = false;
    int keep_alive = -1;
    std::function<void()> at_more;
    wire::Inbox<End> ends;

private:
    CommMessageOut *message_out() override { return &out; }
    CommMessageIn *message_in() override { return &in; }
    bool sends_more() override {
        if (more && at_more)
            at_more();
        return more;
    }
    int keep_alive_timeout() override { return keep_alive; }
    void handle(int state, int error) override { ends.put({state, error, get_cause(), get_seq()}); }
};

inline std::string pattern(size_t n) {
    std::string text(n, ' ');
    for (size_t i = 0; i < n; i++)
        text[i] = static_cast<char>('a' + i % 23);
    return text;
}

} // namespace streaming
