// How much memory a connection costs, counted at operator new and at the seam.

#include <doctest/doctest.h>

#include <memory>

#include "peers.h"
#include "scarce.h"

using namespace peers;

namespace {

// So many bytes and a line feed, in memory of its own that never grows: the core's allocations are the only
// ones that can fail.
class Run : public CommMessageIn, public CommMessageOut {
public:
    size_t length = 0;

private:
    static constexpr size_t most = size_t{1} << 20;
    int encode(struct iovec vectors[], int) override {
        static std::string bytes(most, 'x'); // made by the first life, which has memory
        static char line_feed = '\n';
        vectors[0] = {bytes.data(), length};
        vectors[1] = {&line_feed, 1};
        return 2;
    }
    int append(const void *buf, size_t *size) override {
        const void *end = memchr(buf, '\n', *size);
        if (end == nullptr) {
            length += *size;
            return 0;
        }
        size_t n = static_cast<size_t>(static_cast<const char *>(end) - static_cast<const char *>(buf));
        length += n;
        *size = n + 1;
        return 1;
    }
};

// Echoes runs. Its sessions come from operator new(nothrow): without memory new_session() says nullptr.
class Echo : public CommService {
public:
    Communicator &comm;
    std::atomic<int> sessions{0};
    Signal unbound, stopped;

    explicit Echo(Communicator &on) : comm(on) {}
    int start() {
        Address at = loopback();
        scarce::Scope scope;
        if (init(at.get(), at.size, -1, -1) < 0)
            return -1;
        return comm.bind(this);
    }
    bool finish() {
        {
            scarce::Scope scope;
            comm.unbind(this);
        }
        return unbound.wait();
    }

private:
    class Session : public CommSession {
    public:
        explicit Session(Echo &owner) : owner_(owner) { owner_.sessions++; }
        ~Session() override { owner_.sessions--; }

    private:
        CommMessageOut *message_out() override { return &run_; }
        CommMessageIn *message_in() override { return &run_; }
        int keep_alive_timeout() override { return -1; }
        void handle(int state, int) override {
            if (state != CS_STATE_TOREPLY || owner_.comm.reply(this) < 0)
                delete this;
        }
        Echo &owner_;
        Run run_;
    };
    CommSession *new_session(long long, CommConnection *) override {
        auto *made = new (std::nothrow) Session(*this);
        if (made == nullptr)
            errno = ENOMEM;
        return made;
    }
    void handle_stop(int) override { stopped.set(); }
    void handle_unbound() override { unbound.set(); }
};

} // namespace

TEST_CASE("an idle connection costs less than four kilobytes of memory, and no turn of its loop") {
    constexpr int64_t n = 400;
    scarce::World world;
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Echo echo(comm);
    REQUIRE(echo.start() == 0);
    Address to = local_address(echo);
    std::vector<Socket> clients;
    clients.reserve(n);
    auto connect = [&](int64_t how_many) {
        for (int64_t i = 0; i < how_many; i++) {
            clients.push_back(Socket::connected(to));
            REQUIRE(clients.back().send("x\n"));
            REQUIRE(clients.back().receive(2) == "x\n");
        }
    };
    auto settled = [&] {
        REQUIRE(run_on(comm.loop(0), [] {}));
        return comm.loop(0)->counters().turns;
    };
    connect(1);
    settled();
    int64_t before = scarce::bytes;
    connect(n - 1);
    settled();
    CHECK((scarce::bytes - before) / (n - 1) < 4096);
    // The loop sleeps: what it counts between two looks are the turns of the looks.
    uint64_t turns = settled();
    CHECK(settled() - turns <= 4);
    clients.clear();
    REQUIRE(echo.finish());
}
