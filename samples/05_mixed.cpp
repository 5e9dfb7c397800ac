// Callbacks and coroutines on one port of one Communicator. A callback session answers each line at once; for
// "ask TEXT" it starts a coroutine, which awaits a client session written by hand, and then replies.
// Run it, and in another terminal: nc 127.0.0.1 7000

#include <memory>
#include <semaphore>

#include <parley/protocol/line_message.hpp>

#include "until_signal.hpp"

struct question : CommSession {
    explicit question(std::string text) : line(std::move(text)) {}
    auto ask(Communicator &comm, CommTarget &whom) {
        return parley::from_callback<int>([this, &comm, &whom](auto &done) {
            on_end = &done;
            if (comm.request(this, &whom) < 0)
                done(CS_STATE_ERROR);
        });
    }
    CommMessageOut *message_out() override { return &line; }
    CommMessageIn *message_in() override { return &answer; }
    void handle(int state, int) override { (*on_end)(state); } // and whoever awaits ask() goes on
    parley::line_message line, answer;
    parley::callback_done<int> *on_end = nullptr;
};

struct reply : CommSession {
    reply(parley::runtime &runtime, CommTarget &other) : rt(runtime), whom(other) {}
    CommMessageIn *message_in() override { return &line; }
    CommMessageOut *message_out() override { return &line; }
    int keep_alive_timeout() override { return 60'000; }
    void handle(int state, int) override {
        if (state == CS_STATE_TOREPLY && line.text().starts_with("ask "))
            rt.start(consult(std::unique_ptr<reply>(this)), [](parley::outcome<>) {});
        else if (state != CS_STATE_TOREPLY || rt.communicator().reply(this) < 0)
            delete this;
    }
    static parley::task<> consult(std::unique_ptr<reply> asked) {
        question next(asked->line.text().substr(4));
        const int state = co_await next.ask(asked->rt.communicator(), asked->whom);
        asked->line.text(state == CS_STATE_SUCCESS ? "they say " + next.answer.text() : "no answer");
        if (asked->rt.communicator().reply(asked.get()) == 0)
            asked.release(); // handle() comes once more and deletes it
    }
    parley::runtime &rt;
    CommTarget &whom;
    parley::line_message line;
};

struct mixed_service : CommService {
    parley::task<> open(parley::endpoint where) {
        struct sockaddr_storage storage;
        auto *address = reinterpret_cast<struct sockaddr *>(&storage);
        socklen_t size = where.to_sockaddr(storage).value();
        CommLoop &here = parley::this_loop().core(); // serves it alone: nobody uses `self` before it is ready
        if (init(address, size, -1, -1) < 0 || rt.communicator().bind(this, &here) < 0)
            throw std::system_error(errno, std::system_category(), where.to_string());
        get_local_addr(address, &size);
        self.init(address, size, 1000, 1000);
        std::cout << "listening on " << parley::endpoint(address, size) << std::endl;
        co_return;
    }
    CommSession *new_session(long long, CommConnection *) override { return new reply(rt, self); }
    void handle_unbound() override { unbound.release(); }
    CommTarget self; // this port, for those who ask it
    std::binary_semaphore unbound{0};
    parley::runtime rt; // the last one: it ends before what it uses
};

int main(int argc, char **argv) {
    const parley::endpoint where("127.0.0.1", parse_arguments(argc, argv, "[--port N]", 7000).port);
    mixed_service service;
    if (const int failed = run_until_signal(argv[0], service.rt, service.open(where)))
        return failed;
    service.rt.communicator().unbind(&service);
    service.unbound.acquire();
}
