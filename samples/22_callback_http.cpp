// HTTP with callbacks only: its messages are messages of the core like any others. A service that answers
// every request, and a session that asks it once. Compare 16 and 17, and 01 for the callbacks.
// Ends when the answer is there.

#include <iostream>
#include <netinet/in.h>
#include <semaphore>
#include <string.h>

#include <parley/core/Communicator.h>
#include <parley/http/http1.hpp>

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
            reply_ = http::response::text(200, asked_.method() + " " + asked_.target() + "\n");
            if (asked_.error()) // what is not HTTP is a whole message, too, and says what it deserves
                reply_.status(asked_.error()->status);
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

struct question : CommSession {
    CommMessageOut *message_out() override { return &asked; }
    CommMessageIn *message_in() override { return &answer; }
    void handle(int state, int error) override {
        std::cout << (state == CS_STATE_SUCCESS ? answer.body() : strerror(error));
        over.release();
    }
    http::request asked = http::request("GET", "/hello").set("Host", "localhost");
    http::response answer;
    std::binary_semaphore over{0};
};

int main() {
    struct sockaddr_in where = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
    auto *address = reinterpret_cast<struct sockaddr *>(&where);
    socklen_t size = sizeof where;
    Communicator comm;
    http_service service(comm);
    CommTarget target; // what sessions use outlives them
    question hello;
    if (comm.init(1, 0) < 0 || service.init(address, size, -1, -1) < 0 || comm.bind(&service) < 0)
        return 1;
    service.get_local_addr(address, &size);
    if (target.init(address, size, 1000, 1000) == 0 && comm.request(&hello, &target) == 0)
        hello.over.acquire();
    comm.unbind(&service);
    service.unbound.acquire();
}
