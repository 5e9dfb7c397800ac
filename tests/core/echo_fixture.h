// What tests of the network need again and again: something to wait for, a line as a message, a service that
// echoes lines on a free port of the loopback interface, and a client's call to it.
//
//     Communicator comm;
//     REQUIRE(comm.init(2, 0) == 0);
//     EchoService echo;
//     echo.start(comm);
//     PlainTarget target(echo);
//
//     LineCall call("hello");
//     REQUIRE(comm.request(&call, &target) == 0);
//     call.wait();
//     CHECK(call.reply() == "hello");
//
// Objects go in the reverse order: target, service, Communicator. Nothing in here sleeps, and nothing waits
// with a limit: a test that hangs is ended by CTest.

#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "CommLoop.h"
#include "CommScheduler.h"
#include "Communicator.h"

namespace fixture {

// Opens when it was counted down as often as the constructor says. The last to count down does not touch it
// once wait() can return, so it may live on the stack of who waits.
class Latch {
public:
    explicit Latch(size_t count) : count_(count) {}

    void count_down() {
        std::lock_guard lock(mutex_);
        if (count_ > 0 && --count_ == 0)
            open_.notify_all();
    }

    void wait() {
        std::unique_lock lock(mutex_);
        open_.wait(lock, [this] { return count_ == 0; });
    }

    bool is_open() const {
        std::lock_guard lock(mutex_);
        return count_ == 0;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable open_;
    size_t count_;
};

// Something that happens once.
class Event : public Latch {
public:
    Event() : Latch(1) {}
    void set() { count_down(); }
};

// A number that only grows, and can be waited for.
class Tally {
public:
    void add() {
        std::lock_guard lock(mutex_);
        value_++;
        grown_.notify_all();
    }

    void wait_for(size_t value) {
        std::unique_lock lock(mutex_);
        grown_.wait(lock, [&] { return value_ >= value; });
    }

    size_t value() const {
        std::lock_guard lock(mutex_);
        return value_;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable grown_;
    size_t value_ = 0;
};

// Runs `work` on the loop as a callback of its own; returns when it has returned.
inline void run_on(CommLoop *loop, std::function<void()> work) {
    struct Node : CommNode {
        std::function<void()> work;
        Event done;
    } node;
    node.work = std::move(work);
    node.run = [](CommNode *self) {
        static_cast<Node *>(self)->work();
        static_cast<Node *>(self)->done.set();
    };
    REQUIRE(loop->post(&node) == 0);
    node.done.wait();
}

// Keeps a loop busy, from the constructor's return to the destructor.
class BusyLoop {
public:
    explicit BusyLoop(CommLoop *loop) {
        node_.owner = this;
        node_.run = [](CommNode *self) {
            auto *owner = static_cast<Node *>(self)->owner;
            owner->begun_.set();
            owner->released_.wait();
            owner->ended_.set();
        };
        REQUIRE(loop->post(&node_) == 0);
        begun_.wait();
    }

    ~BusyLoop() {
        released_.set();
        ended_.wait();
    }

    BusyLoop(const BusyLoop &) = delete;
    BusyLoop &operator=(const BusyLoop &) = delete;

private:
    struct Node : CommNode {
        BusyLoop *owner = nullptr;
    } node_;
    Event begun_;
    Event released_;
    Event ended_;
};

// A text and a line feed.
class Line : public CommMessageIn, public CommMessageOut {
public:
    std::string text;

private:
    int append(const void *buf, size_t *size) override {
        const char *begin = static_cast<const char *>(buf);
        const void *end = memchr(begin, '\n', *size);
        if (end == nullptr) {
            text.append(begin, *size);
            return 0;
        }
        size_t length = static_cast<size_t>(static_cast<const char *>(end) - begin);
        text.append(begin, length);
        *size = length + 1;
        return 1;
    }

    int encode(struct iovec vectors[], int) override {
        static char line_feed = '\n';
        vectors[0] = {text.data(), text.size()};
        vectors[1] = {&line_feed, 1};
        return 2;
    }
};

// Replies to each line with the same line. While it holds, requests are kept unanswered.
class EchoService : public CommService {
public:
    // How long a connection may stay idle after a reply, in ms.
    explicit EchoService(int keep_alive = -1) : keep_alive_(keep_alive) {}
    ~EchoService() override { stop(); }

    void start(Communicator &comm) {
        struct sockaddr_in any = {};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(init(reinterpret_cast<struct sockaddr *>(&any), sizeof any, -1, -1) == 0);
        comm_ = &comm;
        REQUIRE(comm.bind(this) == 0);
        socklen_t size = sizeof address_;
        REQUIRE(get_local_addr(reinterpret_cast<struct sockaddr *>(&address_), &size) == 0);
    }
    void start(CommScheduler &scheduler) { start(scheduler.communicator()); }

    // Closes the port and every connection; what is held is dropped. Returns when the service is unbound.
    void stop() {
        if (comm_ == nullptr)
            return;
        drop_held();
        comm_->unbind(this, 0);
        unbound_.wait();
        comm_ = nullptr;
        deinit();
    }

    const struct sockaddr *address() const { return reinterpret_cast<const struct sockaddr *>(&address_); }
    socklen_t address_size() const { return sizeof address_; }

    void hold() {
        std::lock_guard lock(mutex_);
        holds_ = true;
    }

    // Holds no more, and answers what was held, oldest first.
    void let_go() {
        for (Session *session : take_held())
            session->answer();
    }

    // Holds no more, and closes the connections of what was held.
    void drop_held() {
        for (Session *session : take_held())
            delete session;
    }

    Tally held;        // requests that were held, ever
    Tally requests;    // whole lines that came
    Tally connections; // accepted, ever

private:
    class Session final : public CommSession {
    public:
        explicit Session(EchoService *service) : service_(service) {}

        void answer() {
            if (service_->comm_->reply(this) < 0)
                delete this; // the peer has gone
        }

    private:
        CommMessageOut *message_out() override { return &line_; }
        CommMessageIn *message_in() override { return &line_; }
        int keep_alive_timeout() override { return service_->keep_alive_; }
        void handle(int state, int) override {
            if (state == CS_STATE_TOREPLY)
                service_->received(this);
            else
                delete this;
        }

        EchoService *service_;
        Line line_;
    };

    CommSession *new_session(long long, CommConnection *) override { return new Session(this); }
    CommConnection *new_connection(int) override {
        connections.add();
        return new CommConnection;
    }
    void handle_stop(int) override { comm_->unbind(this); }
    void handle_unbound() override { unbound_.set(); }

    void received(Session *session) {
        requests.add();
        if (keep(session))
            held.add();
        else
            session->answer();
    }

    bool keep(Session *session) {
        std::lock_guard lock(mutex_);
        if (holds_)
            held_.push_back(session);
        return holds_;
    }

    std::vector<Session *> take_held() {
        std::lock_guard lock(mutex_);
        holds_ = false;
        return std::exchange(held_, {});
    }

    const int keep_alive_;
    Communicator *comm_ = nullptr;
    struct sockaddr_in address_ = {};
    std::mutex mutex_;
    bool holds_ = false;
    std::vector<Session *> held_;
    Event unbound_;
};

// Peers: without a limit, and with one.
class PlainTarget : public CommTarget {
public:
    explicit PlainTarget(const EchoService &echo, int response_limit = -1) {
        REQUIRE(init(echo.address(), echo.address_size(), -1, response_limit) == 0);
    }
    ~PlainTarget() override { deinit(); }
};

class LimitedTarget : public CommSchedTarget {
public:
    LimitedTarget(const EchoService &echo, size_t max_connections, int response_limit = -1) {
        REQUIRE(init(echo.address(), echo.address_size(), -1, response_limit, max_connections) == 0);
    }
    ~LimitedTarget() override { deinit(); }
};

// Sends a line and awaits one. What came of it can be read once wait() has returned, or in `then`.
class LineCall : public CommSession {
public:
    explicit LineCall(std::string text) { request_.text = std::move(text); }

    // To be set before the request.
    int keep_alive = -1;
    int receive_limit = -1;
    bool in_place = false;
    std::function<void()> then; // the last that happens inside handle() before wait() returns

    // Of a call that was submitted, once.
    void wait() { done_.wait(); }
    bool is_done() const { return done_.is_open(); }

    int state() const { return state_; }
    int error() const { return error_; }
    long long seq() const { return seq_; }
    const std::string &reply() const { return reply_.text; }
    std::thread::id thread() const { return thread_; } // of handle()

private:
    CommMessageOut *message_out() override { return &request_; }
    CommMessageIn *message_in() override { return &reply_; }
    int keep_alive_timeout() override { return keep_alive; }
    int receive_timeout() override { return receive_limit; }
    bool handle_in_place() override { return in_place; }
    void handle(int state, int error) override {
        state_ = state;
        error_ = error;
        seq_ = get_seq();
        thread_ = std::this_thread::get_id();
        if (then)
            then();
        done_.set();
    }

    Line request_;
    Line reply_;
    int state_ = -1;
    int error_ = -1;
    long long seq_ = -1;
    std::thread::id thread_;
    Event done_;
};

} // namespace fixture
