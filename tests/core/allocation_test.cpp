// Memory that runs out at any allocation of a life: operations fail with ENOMEM, everything begun is
// completed once, nothing is lost, and who needs no memory is served on.

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

class Question : public CommSession {
public:
    Run out, in;
    int state = -1, error = -1;
    std::atomic<int> handled{0};
    Signal done;
    explicit Question(size_t length) { out.length = length; }

private:
    CommMessageOut *message_out() override { return &out; }
    CommMessageIn *message_in() override { return &in; }
    int keep_alive_timeout() override { return 60000; }
    void handle(int result, int code) override {
        state = result;
        error = code;
        handled++;
        done.set();
    }
};

// A request, and whether it was answered; without memory it may be refused, or fail, but it ends once.
bool is_answered(Communicator &comm, CommTarget &target, size_t length) {
    Question question(length);
    int submitted;
    {
        scarce::Scope scope;
        submitted = comm.request(&question, &target);
    }
    if (submitted < 0) {
        CHECK(errno == ENOMEM);
        CHECK(question.handled == 0);
        return false;
    }
    REQUIRE(question.done.wait());
    CHECK(question.handled == 1);
    if (question.state != CS_STATE_SUCCESS) {
        CHECK(question.state == CS_STATE_ERROR);
        CHECK((question.error == ENOMEM || question.error == ECONNRESET || question.error == EPIPE));
        return false;
    }
    CHECK(question.in.length == length);
    return true;
}

bool sleeps(Communicator &comm) {
    Nap nap(0ms);
    {
        scarce::Scope scope;
        if (comm.sleep(&nap) < 0) {
            CHECK(errno == ENOMEM);
            return false;
        }
    }
    REQUIRE(nap.done.wait());
    CHECK(nap.handled == 1);
    return nap.state == SS_STATE_COMPLETE;
}

bool a_life(size_t loops, size_t handlers) {
    Communicator comm;
    {
        scarce::Scope scope;
        if (comm.init(loops, handlers) < 0) {
            CHECK(errno == ENOMEM);
            return false;
        }
    }
    Echo echo(comm);
    if (echo.start() < 0) {
        CHECK(errno == ENOMEM);
        return false;
    }
    Address to = local_address(echo);
    bool well = true;
    {
        CommTarget target;
        int made;
        {
            scarce::Scope scope;
            made = target.init(to.get(), to.size, -1, -1);
        }
        if (made < 0) {
            CHECK(errno == ENOMEM);
            well = false;
        } else {
            for (size_t length : {size_t{5}, size_t{1} << 20, size_t{7}})
                well = is_answered(comm, target, length) && well;
            well = sleeps(comm) && well;
        }
    }
    CHECK(echo.stopped.count() == 0);
    REQUIRE(echo.finish());
    {
        scarce::Scope scope;
        comm.deinit();
    }
    CHECK(echo.sessions == 0);
    return well;
}

} // namespace

TEST_CASE("whichever allocation of a life fails, alone or with all after it, the life ends in order") {
    for (size_t loops : {1U, 2U}) {
        size_t handlers = loops - 1;
        {
            scarce::World world;
            REQUIRE(a_life(loops, handlers)); // makes what is made once and kept for ever
        }
        size_t descriptors = open_descriptors(), threads = running_threads();
        int64_t blocks = scarce::live;
        for (bool further : {false, true}) {
            INFO(loops, " loops, ", handlers, " handler threads, ", further ? "onward" : "once");
            for (int64_t n = 1;; n++) {
                INFO("allocation ", n);
                bool over;
                {
                    scarce::World world;
                    scarce::arm(n, further);
                    bool well = a_life(loops, handlers);
                    scarce::plenty();
                    over = scarce::failures == 0;
                    if (over)
                        CHECK(well);
                }
                CHECK(open_descriptors() == descriptors);
                CHECK(eventually([&] { return running_threads() == threads; }));
                CHECK(scarce::live == blocks);
                if (over)
                    break;
            }
        }
    }
}

TEST_CASE("without any memory a warm connection is served on, and new ones are when there is some again") {
    scarce::World world;
    Communicator comm;
    REQUIRE(comm.init(2, 0) == 0);
    Echo echo(comm);
    REQUIRE(echo.start() == 0);
    // What a warm turn needs of the service is one session; this one keeps it.
    Address to = local_address(echo);
    CommTarget target;
    REQUIRE(target.init(to.get(), to.size, -1, -1) == 0);
    REQUIRE(is_answered(comm, target, 3));
    for (int64_t n = 1; n <= 40; n++) {
        INFO("all allocations fail from number ", n);
        scarce::arm(n, true);
        Socket stranger = Socket::connected(to);
        REQUIRE(stranger);
        (void)stranger.send("x\n");
        std::string answer = stranger.receive(2);
        CHECK((answer == "x\n" || answer.empty())); // whole, or closed: never a hang
        (void)is_answered(comm, target, 3);
        (void)sleeps(comm);
        scarce::plenty();
        CHECK(is_answered(comm, target, 4));
        Socket later = Socket::connected(to);
        REQUIRE(later.send("x\n"));
        CHECK(later.receive(2) == "x\n");
    }
    CHECK(echo.stopped.count() == 0);
    REQUIRE(echo.finish());
    comm.deinit();
    CHECK(echo.sessions == 0);
}

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
