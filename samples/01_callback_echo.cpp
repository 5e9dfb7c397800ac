// The callback core by itself: a service that answers each line with the same line, and a client session that
// asks it. One loop runs every callback, so nothing here needs a lock. The same with coroutines: 02 and 03.
// Run it, and in another terminal: nc 127.0.0.1 7000

#include <iostream>
#include <netinet/in.h>
#include <semaphore>
#include <signal.h>
#include <string.h>

#include <parley/core/Communicator.h>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

class answer : public CommSession {
public:
    explicit answer(Communicator &comm) : comm_(comm) {}

private:
    CommMessageIn *message_in() override { return &line_; }
    CommMessageOut *message_out() override { return &line_; }
    int keep_alive_timeout() override { return 60'000; } // milliseconds, for the next line
    void handle(int state, int) override {
        if (state != CS_STATE_TOREPLY || comm_.reply(this) < 0) // replied: handle() comes once more
            delete this;
    }
    Communicator &comm_;
    parley::line_message line_;
};

class echo_service : public CommService {
public:
    explicit echo_service(Communicator &comm) : comm_(comm) {}
    std::binary_semaphore unbound{0};

private:
    CommSession *new_session(long long, CommConnection *) override { return new answer(comm_); }
    void handle_unbound() override { unbound.release(); }
    Communicator &comm_;
};

class question : public CommSession {
    CommMessageOut *message_out() override { return &line_; }
    CommMessageIn *message_in() override { return &answer_; }
    void handle(int state, int error) override {
        std::cout << "got: " << (state == CS_STATE_SUCCESS ? answer_.text() : strerror(error)) << std::endl;
    }
    parley::line_message line_{"hello"}, answer_;
};

int main(int argc, char **argv) {
    const auto port = parse_arguments(argc, argv, "[--port N]", 7000).port;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr); // before the loop's thread begins: main() waits for them
    struct sockaddr_in where = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {}};
    auto *address = reinterpret_cast<struct sockaddr *>(&where);
    socklen_t size = sizeof where;
    Communicator comm;
    echo_service service(comm);
    CommTarget target; // what sessions use outlives them; comm.deinit() ends those that are under way
    question hello;
    if (comm.init(1, 0) == 0 && service.init(address, size, -1, -1) == 0 && comm.bind(&service) == 0) {
        service.get_local_addr(address, &size);
        std::cout << "listening on 127.0.0.1:" << ntohs(where.sin_port) << std::endl;
        if (target.init(address, size, 1000, 1000) == 0 && comm.request(&hello, &target) == 0) {
            int signal;
            sigwait(&ends, &signal);
            comm.unbind(&service);
            service.unbound.acquire();
            return comm.deinit(), 0;
        }
    }
    std::cerr << argv[0] << ": 127.0.0.1:" << port << ": " << strerror(errno) << '\n';
    return 1;
}
