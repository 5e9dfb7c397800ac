// Callbacks and coroutines side by side, on one port of one Communicator. A callback session answers each
// line at once; for "ask TEXT" it starts a coroutine, which awaits a client session written by hand and then
// replies. Run it, and in another terminal: nc 127.0.0.1 7000

#include <memory>
#include <semaphore>

#include <parley/protocol/line_message.hpp>

#include "until_signal.hpp"

// Any CommSession is something to await, once its handle() calls `done`.
struct question : CommSession {
    explicit question(std::string text) : line_(std::move(text)) {}
    auto ask(Communicator &comm, CommTarget &whom) {
        return parley::from_callback<int>([this, &comm, &whom](auto &done) {
            done_ = &done;
            if (comm.request(this, &whom) < 0)
                done(CS_STATE_ERROR);
        });
    }
    CommMessageOut *message_out() override { return &line_; }
    CommMessageIn *message_in() override { return &answer_; }
    void handle(int state, int) override { (*done_)(state); }
    parley::line_message line_, answer_;
    parley::callback_done<int> *done_ = nullptr;
};

struct reply : CommSession {
    reply(parley::runtime &rt, CommTarget &whom) : rt_(rt), whom_(whom) {}
    CommMessageIn *message_in() override { return &line_; }
    CommMessageOut *message_out() override { return &line_; }
    int keep_alive_timeout() override { return 60'000; }
    void handle(int state, int) override {
        if (state == CS_STATE_TOREPLY && line_.text().starts_with("ask "))
            rt_.start(consult(std::unique_ptr<reply>(this)), [](parley::outcome<>) {});
        else if (state != CS_STATE_TOREPLY || rt_.communicator().reply(this) < 0)
            delete this;
    }
    static parley::task<> consult(std::unique_ptr<reply> self) {
        question next(self->line_.text().substr(4));
        const int state = co_await next.ask(self->rt_.communicator(), self->whom_);
        self->line_.text(state == CS_STATE_SUCCESS ? "they say " + next.answer_.text() : "no answer");
        if (self->rt_.communicator().reply(self.get()) == 0)
            self.release(); // handle() comes once more and deletes it
    }
    parley::runtime &rt_;
    CommTarget &whom_;
    parley::line_message line_;
};

struct mixed_service : CommService {
    explicit mixed_service(parley::runtime &rt) : rt_(rt) {}
    parley::task<> open(parley::endpoint where) {
        struct sockaddr_storage storage;
        auto *address = reinterpret_cast<struct sockaddr *>(&storage);
        socklen_t size = where.to_sockaddr(storage).value();
        if (init(address, size, -1, -1) < 0 || rt_.communicator().bind(this) < 0)
            throw std::system_error(errno, std::system_category(), where.to_string());
        get_local_addr(address, &size);
        self_.init(address, size, 1000, 1000);
        std::cout << "listening on " << parley::endpoint(address, size) << std::endl;
        co_return;
    }
    CommSession *new_session(long long, CommConnection *) override { return new reply(rt_, self_); }
    void handle_unbound() override { unbound_.release(); }
    parley::runtime &rt_;
    CommTarget self_; // this port, for those who ask it
    std::binary_semaphore unbound_{0};
};

int main(int argc, char **argv) {
    const parley::endpoint where("127.0.0.1", parse_arguments(argc, argv, "[--port N]", 7000).port);
    parley::runtime rt;
    mixed_service service(rt);
    if (const int failed = run_until_signal(argv[0], rt, service.open(where)))
        return failed;
    rt.communicator().unbind(&service);
    service.unbound_.acquire();
}
