// A protocol of one's own: a length (4 bytes, big-endian), then that many bytes. One message class does for
// both sides, for coroutines and callbacks: a coroutine serves it here, a coroutine and a callback ask.
// The library has the same one as parley::length_prefixed, which spares large bodies a copy.

#include <algorithm>
#include <arpa/inet.h>

#include "until_signal.hpp"

class frame : public CommMessageIn, public CommMessageOut {
public:
    frame(std::string text = {}) : body(std::move(text)) {}
    std::string body;

private:
    int append(const void *buf, std::size_t *size) override {
        const char *bytes = static_cast<const char *>(buf);
        const std::size_t used = std::min(*size, sizeof length_ - received_);
        std::copy_n(bytes, used, reinterpret_cast<char *>(&length_) + received_);
        if ((received_ += used) < sizeof length_)
            return 0; // there is more to come
        if (ntohl(length_) > 64'000'000)
            return errno = EMSGSIZE, -1;
        const std::size_t rest = std::min(*size - used, ntohl(length_) - body.size());
        body.append(bytes + used, rest);
        *size = used + rest;                  // what follows belongs to the next message
        return body.size() == ntohl(length_); // 1: complete
    }
    int encode(struct iovec vectors[], int) override {
        length_ = htonl(static_cast<std::uint32_t>(body.size()));
        vectors[0] = {&length_, sizeof length_};
        vectors[1] = {body.data(), body.size()};
        return 2;
    }
    std::uint32_t length_ = 0; // as it travels
    std::size_t received_ = 0; // of these bytes
};

struct frames {
    using request = frame;
    using response = frame;
};

parley::task<> echo(parley::connection<frames> peer) {
    while (auto message = co_await peer.recv())
        if (auto sent = co_await peer.send(*message); !sent)
            co_return;
}

class callback_question : public CommSession {
    CommMessageOut *message_out() override { return &question_; }
    CommMessageIn *message_in() override { return &answer_; }
    void handle(int state, int) override {
        std::cout << "callback: " << (state == CS_STATE_SUCCESS ? answer_.body : "no answer") << std::endl;
    }
    frame question_{"hello"}, answer_;
};

parley::task<> serve_and_ask(unsigned short port, CommTarget &target, CommSession &question) {
    parley::server<frames> door(parley::endpoint("127.0.0.1", port), echo);
    const parley::endpoint local = (co_await door.listen()).value(); // or throws
    std::cout << "listening on " << local << std::endl;
    parley::client<frames> client(local);
    auto answer = co_await client.request(frame("hello"));
    std::cout << "coroutine: " << answer.value().body << std::endl;
    struct sockaddr_storage address;
    const socklen_t size = local.to_sockaddr(address).value();
    if (target.init(reinterpret_cast<struct sockaddr *>(&address), size, 1000, 1000) < 0 ||
        parley::this_loop().communicator().request(&question, &target) < 0)
        throw std::system_error(errno, std::system_category(), "request");
    (co_await door.serve()).value();
}

int main(int argc, char **argv) {
    const auto port = parse_arguments(argc, argv, "[--port N]", 7000).port;
    CommTarget target; // these two outlive run_until_signal(), which ends whatever is under way
    callback_question question;
    return run_until_signal(argv[0], serve_and_ask(port, target, question));
}
