// The smallest sessions there are: a timer, a request of one byte, a service that is asked for one, and peers
// at the other end that are no Communicators.

#pragma once

#include <errno.h>
#include <netinet/in.h>

#include <chrono>
#include <functional>
#include <utility>

#include "Communicator.h"
#include "explored.h"

namespace explored {

using std::chrono::milliseconds;

inline struct sockaddr_in local_address(std::uint16_t port) {
    struct sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// What handle() was told.
struct Outcome {
    int calls = 0;
    int state = -1;
    int error = -1;

    void tell(int its_state, int its_error) {
        calls++;
        state = its_state;
        error = its_error;
    }
    bool is(int its_state, int its_error) const { return state == its_state && error == its_error; }
};

class Nap : public SleepSession {
public:
    explicit Nap(milliseconds length, Count *told = nullptr) : length_(length), told_(told) {}

    Outcome outcome;
    std::function<void()> then; // in handle()

private:
    int duration(struct timespec *value) override {
        value->tv_sec = length_.count() / 1000;
        value->tv_nsec = length_.count() % 1000 * 1'000'000;
        return 0;
    }
    void handle(int state, int error) override {
        outcome.tell(state, error);
        if (then)
            then();
        if (told_ != nullptr)
            told_->add(); // the last step: it may be gone then
    }

    milliseconds length_;
    Count *told_;
};

struct ByteOut : CommMessageOut {
    char byte = 'p';

private:
    int encode(struct iovec vectors[], int) override {
        vectors[0] = {&byte, 1};
        return 1;
    }
};

struct ByteIn : CommMessageIn {
private:
    int append(const void *, size_t *size) override {
        *size = 1;
        return 1;
    }
};

// Counts how often it is let go of.
class Peer : public CommTarget {
public:
    Peer(sim::world &world, std::uint16_t port) {
        const struct sockaddr_in address = local_address(port);
        world.expect(init(reinterpret_cast<const struct sockaddr *>(&address), sizeof address, -1, -1) == 0,
                     "init");
    }
    ~Peer() override { deinit(); }

    int released = 0;

private:
    void release() override { released++; }
};

// Sends a byte and awaits one.
class Request : public CommSession {
public:
    explicit Request(Count *told = nullptr, int timeout_ms = -1) : told_(told), timeout_(timeout_ms) {}

    Outcome outcome;
    std::function<void()> then; // in handle(), the last step: it may delete this
    bool in_place = false;      // told of its ends on the loop
    int peers_gone = 0;         // how often handle_peer_closed() was called

private:
    bool handle_in_place() override { return in_place; }
    void handle_peer_closed() override { peers_gone++; }
    CommMessageOut *message_out() override { return &out_; }
    CommMessageIn *message_in() override { return &in_; }
    int receive_timeout() override { return timeout_; }
    void handle(int state, int error) override {
        outcome.tell(state, error);
        Count *told = told_;
        if (const auto last = then)
            last();
        if (told != nullptr)
            told->add();
    }

    Count *told_;
    int timeout_;
    ByteOut out_;
    ByteIn in_;
};

// Makes one session, the caller's, for its first connection and refuses further ones.
class OneRequest : public CommService {
public:
    static constexpr std::uint16_t port = 7000;

    OneRequest(sim::world &world, CommSession *session) : session_(session) {
        const struct sockaddr_in address = local_address(port);
        world.expect(init(reinterpret_cast<const struct sockaddr *>(&address), sizeof address, -1, -1) == 0,
                     "init");
    }

    Count unbound;

private:
    CommSession *new_session(long long, CommConnection *) override {
        return std::exchange(session_, nullptr);
    }
    void handle_unbound() override { unbound.add(); }

    CommSession *session_;
};

// A socket of the kernel's kind that listens and never accepts: a peer that takes everything and answers
// nothing.
class Mute {
public:
    Mute(sim::world &world, std::uint16_t port) : fd(parley::sys::socket(AF_INET, SOCK_STREAM, 0)) {
        const struct sockaddr_in address = local_address(port);
        auto *at = reinterpret_cast<const struct sockaddr *>(&address);
        world.expect(parley::sys::bind(fd, at, sizeof address) == 0, "bind");
        world.expect(parley::sys::current().listen(fd, 8) == 0, "listen");
    }
    ~Mute() { parley::sys::close(fd); }
    Mute(const Mute &) = delete;
    Mute &operator=(const Mute &) = delete;

    const int fd;
};

// A client that has sent its byte and reads nothing.
class Asking {
public:
    Asking(sim::world &world, std::uint16_t port) : fd_(parley::sys::socket(AF_INET, SOCK_STREAM, 0)) {
        const struct sockaddr_in address = local_address(port);
        auto *at = reinterpret_cast<const struct sockaddr *>(&address);
        world.expect(parley::sys::connect(fd_, at, sizeof address) == 0, "connect");
        world.expect(parley::sys::send(fd_, "q", 1, 0) == 1, "send");
    }
    ~Asking() { close(); }
    Asking(const Asking &) = delete;
    Asking &operator=(const Asking &) = delete;

    void reset() {
        const struct linger how = {1, 0};
        parley::sys::current().setsockopt(fd_, SOL_SOCKET, SO_LINGER, &how, sizeof how);
        close();
    }
    void close() {
        if (fd_ >= 0)
            parley::sys::close(fd_);
        fd_ = -1;
    }

private:
    int fd_;
};

// The first ticket of a process makes a table, and the steps of that would be there in one run only.
inline void make_ticket_table() {
    Request any;
    any.ticket();
}

} // namespace explored
