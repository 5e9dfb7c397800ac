// HTTP with callbacks only: its messages are messages of the core like any others. A service that answers every
// request, and a session that asks it once. Compare 16 and 17, and 01 for the callbacks.
// Run it, and in another terminal: curl -i http://127.0.0.1:8080/

#include <iostream>
#include <netinet/in.h>
#include <semaphore>
#include <signal.h>
#include <string.h>

#include <parley/core/Communicator.h>
#include <parley/http/http1.hpp>

#include "arguments.hpp"

namespace http = parley::http;

// [session]
class answer : public CommSession {
public:
    explicit answer(Communicator &comm) : comm_(comm) {}

private:
    CommMessageIn *message_in() override { return &asked_; }
    CommMessageOut *message_out() override { return &reply_; }
    int keep_alive_timeout() override { return asked_.keep_alive() ? 60'000 : 0; } // milliseconds
    void handle(int state, int) override {
        if (state == CS_STATE_TOREPLY) {
            if (asked_.error()) // what is not HTTP is a whole message, too: with the answer that it deserves
                reply_ = http::response::text(asked_.error()->status, asked_.error()->what + "\n");
            else
                reply_ = http::response::text(200, asked_.method() + " " + asked_.target() + "\n");
            reply_.answers_to(asked_);
            if (comm_.reply(this) == 0)
                return; // handle() comes once more
        }
        delete this;
    }
    Communicator &comm_;
    http::request asked_;
    http::response reply_;
};
// [/session]

class http_service : public CommService {
public:
    explicit http_service(Communicator &comm) : comm_(comm) {}
    std::binary_semaphore unbound{0};

private:
    CommSession *new_session(long long, CommConnection *) override { return new answer(comm_); }
    void handle_unbound() override { unbound.release(); }
    Communicator &comm_;
};

class question : public CommSession {
    CommMessageOut *message_out() override { return &asked_; }
    CommMessageIn *message_in() override { return &answer_; }
    void handle(int state, int error) override {
        if (state == CS_STATE_SUCCESS)
            std::cout << "got: " << answer_.status() << ' ' << answer_.reason() << ", " << answer_.body()
                      << std::flush;
        else
            std::cout << "got: " << strerror(error) << std::endl;
    }
    http::request asked_ = http::request("GET", "/hello").set("Host", "localhost");
    http::response answer_;
};

int main(int argc, char **argv) {
    const auto port = parse_arguments(argc, argv, "[--port N]", 8080).port;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr); // before the loop's thread begins: main() waits for them
    struct sockaddr_in where = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {}};
    auto *address = reinterpret_cast<struct sockaddr *>(&where);
    socklen_t size = sizeof where;
    Communicator comm;
    http_service service(comm);
    CommTarget target; // what sessions use outlives them; comm.deinit() ends those that are under way
    question hello;
    if (comm.init(1, 0) == 0 && service.init(address, size, -1, 30'000) == 0 && comm.bind(&service) == 0) {
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
