#include <parley/core/Communicator.h>
#include <parley/protocol/length_prefixed.hpp>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <condition_variable>
#include <mutex>

#include "echo_server.h"

namespace {

class echo_service;

// One turn. It goes back to its loop's list when it is over, so a warm server allocates nothing.
class echo_session final : public CommSession {
public:
    explicit echo_session(Communicator &comm) : comm_(comm) {}

    echo_session *next_free = nullptr;

private:
    CommMessageOut *message_out() override { return &message_; }
    CommMessageIn *message_in() override {
        message_.clear();
        return &message_;
    }
    int keep_alive_timeout() override { return -1; }
    void handle(int state, int error) override;

    Communicator &comm_;
    parley::length_prefixed message_;
};

// Sessions at rest, one list per loop.
thread_local echo_session *spare = nullptr;

void echo_session::handle(int state, int) {
    if (state == CS_STATE_TOREPLY && comm_.reply(this) == 0)
        return;
    next_free = spare;
    spare = this;
}

class echo_service final : public CommService {
public:
    explicit echo_service(Communicator &comm) : comm_(comm) {}

    void wait_unbound() {
        std::unique_lock<std::mutex> lock(mutex_);
        gone_.wait(lock, [this] { return unbound_; });
    }

private:
    CommSession *new_session(long long, CommConnection *) override {
        if (echo_session *session = spare) {
            spare = session->next_free;
            return session;
        }
        return new echo_session(comm_);
    }
    void handle_unbound() override {
        std::lock_guard<std::mutex> lock(mutex_);
        unbound_ = true;
        gone_.notify_one();
    }

    Communicator &comm_;
    std::mutex mutex_;
    std::condition_variable gone_;
    bool unbound_ = false;
};

int failed(const char *what) {
    fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
    return 1;
}

} // namespace

int serve_with_callbacks(const echo_options &options, const on_port &tell) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);

    Communicator comm;
    if (comm.init(options.loops, 0) < 0)
        return failed("init");
    struct sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(options.port);
    echo_service service(comm);
    if (service.init(reinterpret_cast<struct sockaddr *>(&address), sizeof address, -1, -1) < 0 ||
        comm.bind(&service) < 0)
        return failed("bind");
    socklen_t size = sizeof address;
    service.get_local_addr(reinterpret_cast<struct sockaddr *>(&address), &size);
    tell(ntohs(address.sin_port));
    int signal;
    sigwait(&ends, &signal);
    // Sessions that rest in a list hold their last connection: the process ends with them.
    comm.deinit();
    return 0;
}
