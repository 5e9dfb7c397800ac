#include "CommRequest.h"
#include "IORequest.h"
#include "SleepRequest.h"

#include "echo_fixture.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <openssl/ssl.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace fixture;

namespace {

// A request for a line. Whatever done() shall do stands in `next`, which returns the next step.
class LineRequest : public CommRequest {
public:
    LineRequest(CommSchedObject *request_object, CommScheduler *request_scheduler)
        : CommRequest(request_object, request_scheduler) {
        request_.text = "hello";
    }

    std::function<SubTask *()> next;
    int limit = -1; // for the whole answer
    std::vector<long long> seqs;

    // Until it has ended so many times; then nothing of it is in use any more.
    void wait(size_t times = 1) { done_.wait_for(times); }
    bool is_done() const { return done_.value() > 0; }
    bool is(int expected_state, int expected_error, int expected_reason) const {
        return state == expected_state && error == expected_error && timeout_reason == expected_reason;
    }
    bool succeeded() const { return is(CS_STATE_SUCCESS, 0, TOR_NOT_TIMEOUT); }
    CommTarget *used_target() const { return target; }
    const std::string &reply() const { return reply_.text; }

private:
    CommMessageOut *message_out() override {
        seqs.push_back(get_seq());
        reply_.text.clear();
        return &request_;
    }
    CommMessageIn *message_in() override { return &reply_; }
    int keep_alive_timeout() override { return -1; }
    int receive_timeout() override { return limit; }
    SubTask *done() override {
        SubTask *following = next ? next() : nullptr;
        if (following == nullptr)
            done_.add();
        return following;
    }

    Line request_;
    Line reply_;
    Tally done_;
};

class Sleep : public SleepRequest {
public:
    Sleep(CommScheduler *request_scheduler, time_t seconds, long nanoseconds)
        : SleepRequest(request_scheduler), duration_{seconds, nanoseconds} {}

    using SleepRequest::cancel;
    std::function<void()> inside_handle;

    void wait() { done_.wait(); }
    bool is_done() const { return done_.is_open(); }
    bool is(int expected_state, int expected_error) const {
        return state == expected_state && error == expected_error;
    }

private:
    int duration(struct timespec *value) override { return *value = duration_, 0; }
    void handle(int result, int result_error) override {
        if (inside_handle)
            inside_handle();
        SleepRequest::handle(result, result_error);
    }
    SubTask *done() override { return done_.set(), nullptr; }

    struct timespec duration_;
    Event done_;
};

struct Bench {
    CommScheduler scheduler;
    EchoService echo;

    explicit Bench(size_t handlers = 0) {
        REQUIRE(scheduler.init(1, handlers) == 0);
        echo.start(scheduler);
    }
};

} // namespace

TEST_CASE("a request tells its result in done()") {
    Bench bench;
    LimitedTarget target(bench.echo, 1);
    LineRequest request(&target, &bench.scheduler);
    CHECK(request.get_request_object() == &target);
    CHECK(request.get_wait_timeout() == 0);

    request.dispatch();
    request.wait();
    CHECK(request.succeeded());
    CHECK(request.reply() == "hello");
    CHECK(request.used_target() == &target);
}

TEST_CASE("a request that is sent again from done() has the same connection, its only one") {
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        Bench bench(handlers);
        LimitedTarget target(bench.echo, 1);
        LineRequest request(&target, &bench.scheduler);
        int left = 3;
        request.next = [&] { return --left > 0 && request.succeeded() ? &request : nullptr; };

        request.dispatch();
        request.wait();
        CHECK(request.succeeded());
        CHECK(request.seqs == std::vector<long long>{0, 1, 2});
        CHECK(bench.echo.connections.value() == 1);
    }
}

TEST_CASE("a request can be sent to another object") {
    Bench bench;
    LimitedTarget first(bench.echo, 1), second(bench.echo, 1);
    LineRequest request(&first, &bench.scheduler);
    bool again = true;
    request.next = [&]() -> SubTask * {
        if (!std::exchange(again, false))
            return nullptr;
        request.set_request_object(&second);
        return &request;
    };

    request.dispatch();
    request.wait();
    CHECK(request.succeeded());
    CHECK(request.used_target() == &second);
    CHECK(request.seqs == std::vector<long long>{0, 0});
}

TEST_CASE("a request that finds no slot says so inside dispatch()") {
    Bench bench;
    LimitedTarget target(bench.echo, 1);
    bench.echo.hold();
    LineRequest first(&target, &bench.scheduler), second(&target, &bench.scheduler);
    first.dispatch();

    second.dispatch();
    CHECK(second.is_done());
    CHECK(second.is(CS_STATE_ERROR, EAGAIN, TOR_NOT_TIMEOUT));
    CHECK(second.used_target() == nullptr);
    bench.echo.held.wait_for(1);
    bench.echo.let_go();
    first.wait();
    CHECK(first.succeeded());
}

TEST_CASE("a request that waited in vain for a slot says that it was the wait") {
    Bench bench;
    LimitedTarget target(bench.echo, 1);
    bench.echo.hold();
    LineRequest first(&target, &bench.scheduler), second(&target, &bench.scheduler);
    second.set_wait_timeout(1);
    CHECK(second.get_wait_timeout() == 1);
    first.dispatch();

    second.dispatch();
    CHECK(second.is_done());
    CHECK(second.is(CS_STATE_ERROR, ETIMEDOUT, TOR_WAIT_TIMEOUT));
    CHECK(second.get_cause() == CC_WAIT);
    bench.echo.held.wait_for(1);
    bench.echo.let_go();
    first.wait();
}

TEST_CASE("a request whose connection is not ready in time says that it was the connecting") {
    Bench bench;
    bench.echo.pause_accept(); // the kernel connects, nobody answers the handshake
    std::unique_ptr<SSL_CTX, void (*)(SSL_CTX *)> tls(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    CommSchedTarget target;
    REQUIRE(target.init(bench.echo.address(), bench.echo.address_size(), tls.get(), -1, 1, -1, 1) == 0);
    LineRequest request(&target, &bench.scheduler);

    request.dispatch();
    request.wait();
    CHECK(request.is(CS_STATE_ERROR, ETIMEDOUT, TOR_CONNECT_TIMEOUT));
    CHECK(request.used_target() == &target);
    CHECK(request.seqs.empty());
    target.deinit();
}

TEST_CASE("a request whose answer is late says that it was the transmission") {
    Bench bench;
    LimitedTarget target(bench.echo, 1);
    bench.echo.hold();
    LineRequest request(&target, &bench.scheduler);
    request.limit = 1;

    request.dispatch();
    request.wait();
    CHECK(request.is(CS_STATE_ERROR, ETIMEDOUT, TOR_TRANSMIT_TIMEOUT));
}

TEST_CASE("a request that is sent again knows nothing of the last time") {
    Bench bench;
    LimitedTarget target(bench.echo, 1);
    LineRequest request(&target, &bench.scheduler), other(&target, &bench.scheduler);
    request.set_wait_timeout(1);
    request.dispatch();
    request.wait();
    REQUIRE(request.succeeded());
    bench.echo.hold();
    other.dispatch();

    request.dispatch(); // there is no slot now
    CHECK(request.is(CS_STATE_ERROR, ETIMEDOUT, TOR_WAIT_TIMEOUT));
    CHECK(request.used_target() == nullptr);
    bench.echo.held.wait_for(1);
    bench.echo.let_go();
    other.wait();

    request.next = nullptr;
    request.set_wait_timeout(-1);
    request.dispatch();
    request.wait(3);
    CHECK(request.succeeded());
}

TEST_CASE("refused requests that are sent again and again do not grow the stack") {
    CommScheduler scheduler; // not initialised: it refuses
    EchoService echo;
    LimitedTarget target(echo, 1);
    LineRequest request(&target, &scheduler);
    int left = 100'000;
    request.next = [&] { return --left > 0 ? &request : nullptr; };

    request.dispatch();
    CHECK(request.is_done());
    CHECK(left == 0);
    CHECK(request.is(CS_STATE_ERROR, ESHUTDOWN, TOR_NOT_TIMEOUT));
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("requests side by side share the connections of their target") {
    class Batch : public ParallelTask {
    public:
        using ParallelTask::ParallelTask;
        Event over;

    private:
        SubTask *done() override { return over.set(), nullptr; }
    };
    Bench bench(2);
    LimitedTarget target(bench.echo, 4);
    std::deque<LineRequest> requests;
    std::vector<SubTask *> tasks;
    for (int i = 0; i < 4; i++)
        tasks.push_back(&requests.emplace_back(&target, &bench.scheduler));
    Batch batch(tasks.data(), tasks.size());

    batch.dispatch();
    batch.over.wait();
    for (LineRequest &request : requests)
        CHECK(request.succeeded());
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a timer ends its step when the time has come") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    Sleep sleep(&scheduler, 0, 1);

    sleep.dispatch();
    sleep.wait();
    CHECK(sleep.is(SS_STATE_COMPLETE, 0));
}

TEST_CASE("a timer that is cancelled ends with ECANCELED, never inside cancel()") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    for (time_t seconds : {time_t{-1}, time_t{1'000'000}}) {
        CAPTURE(seconds);
        Sleep sleep(&scheduler, seconds, 0);
        std::mutex mutex; // which handle() takes as well
        sleep.inside_handle = [&] { std::lock_guard lock(mutex); };
        {
            std::lock_guard lock(mutex);
            sleep.dispatch();
            CHECK(sleep.cancel() == 0);
            CHECK(sleep.cancel() == -1);
            CHECK(errno == ENOENT);
        }
        sleep.wait();
        CHECK(sleep.is(SS_STATE_ERROR, ECANCELED));
    }
}

TEST_CASE("a timer with an impossible duration fails inside dispatch()") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    Sleep sleep(&scheduler, 0, 1'000'000'000);

    sleep.dispatch();
    CHECK(sleep.is_done());
    CHECK(sleep.is(SS_STATE_ERROR, EINVAL));
}

TEST_CASE("a timer that the scheduler's end interrupts is disrupted, and one behind it refused") {
    for (size_t handlers : {0u, 1u}) {
        CAPTURE(handlers);
        CommScheduler scheduler;
        REQUIRE(scheduler.init(1, handlers) == 0);
        Sleep sleep(&scheduler, -1, 0), late(&scheduler, 0, 0);
        sleep.dispatch();
        scheduler.deinit();
        CHECK(sleep.is_done());
        CHECK(sleep.is(SS_STATE_DISRUPTED, 0));

        late.dispatch();
        CHECK(late.is_done());
        CHECK(late.is(SS_STATE_ERROR, ESHUTDOWN));
    }
}

TEST_CASE("a file operation is a step too") {
    struct Files : IOService {
        Event unbound;
        void handle_unbound() override { unbound.set(); }
    } files;
    class Read : public IORequest {
    public:
        Read(IOService *request_service, int fd) : IORequest(request_service), fd_(fd) {}

        char buffer[4] = {};
        Event over;
        bool is(int expected_state, int expected_error, long result) const {
            return state == expected_state && error == expected_error && get_res() == result;
        }

    private:
        int prepare() override { return prep_pread(fd_, buffer, 4, 0), 0; }
        SubTask *done() override { return over.set(), nullptr; }
        int fd_;
    };
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    REQUIRE(files.init(4) == 0);
    int zero = parley::sys::current().open("/dev/zero", 0, 0);
    REQUIRE(zero >= 0);
    Read unbound(&files, zero), good(&files, zero), bad(&files, -1);

    unbound.dispatch();
    CHECK(unbound.over.is_open());
    CHECK(unbound.is(IOS_STATE_ERROR, ENOENT, 0));
    REQUIRE(scheduler.io_bind(&files) == 0);
    good.dispatch();
    good.over.wait();
    CHECK(good.is(IOS_STATE_SUCCESS, 0, 4));
    bad.dispatch();
    bad.over.wait();
    CHECK(bad.is(IOS_STATE_ERROR, EBADF, -EBADF));

    scheduler.io_unbind(&files);
    files.unbound.wait();
    files.deinit();
    parley::sys::close(zero);
}
