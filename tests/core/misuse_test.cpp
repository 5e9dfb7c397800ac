// Calls that make no sense where they are made: each says so by its errno, and nothing else happens. Before
// init(), while everything runs, after the end.

#include <doctest/doctest.h>

#include <limits.h>

#include <functional>

#include "CommScheduler.h"
#include "peers.h"

using namespace peers;

namespace {

class Push : public CommPush {
public:
    explicit Push(CommSession *on) : CommPush(on) {}
    int handled = 0;

private:
    CommMessageOut *message_out() override { return &line_; }
    void handle(int, int) override { handled++; }
    Line line_{std::string("pushed")};
};

class Watch : public CommWatch {
public:
    int handled = 0;

private:
    void handle(int, int) override { handled++; }
};

class Files : public IOService {
public:
    int unbound = 0;

private:
    void handle_unbound() override { unbound++; }
};

struct Call {
    const char *name;
    int error; // 0: the call succeeds, and does nothing
    std::function<int()> make;
};

void all_refused(const std::vector<Call> &calls) {
    for (const Call &call : calls) {
        CAPTURE(std::string(call.name));
        errno = 0;
        int result = call.make();
        CHECK(result == (call.error == 0 ? 0 : -1));
        CHECK(errno == call.error);
    }
}

// What a Communicator that is not running refuses.
std::vector<Call> without_communicator(Communicator &comm, Lines &service, Target &target, Ask &ask, Nap &nap,
                                       Push &push, Watch &watch, Files &files) {
    return {
        {"request", ESHUTDOWN, [&] { return comm.request(&ask, &target); }},
        {"reply with a client's session", EINVAL, [&] { return comm.reply(&ask); }},
        {"shutdown of a client's session", EINVAL, [&] { return comm.shutdown(&ask); }},
        {"push on a session that was never sent", ENOENT, [&] { return comm.push("x", 1, &ask); }},
        {"push, with completion", ESHUTDOWN, [&] { return comm.push(&push); }},
        {"cancel of no ticket", ENOENT, [&] { return comm.cancel(CommTicket{}); }},
        {"cancel of a ticket that names nothing", ENOENT,
         [&] { return comm.cancel(CommTicket{77777777, 1}); }},
        {"cancel of a session that was never sent", ENOENT, [&] { return comm.cancel(&ask); }},
        {"bind", ESHUTDOWN, [&] { return comm.bind(&service); }},
        {"unbind of a service that is not bound", 0, [&] { return comm.unbind(&service), 0; }},
        {"unbind with a deadline", 0, [&] { return comm.unbind(&service, INT_MIN), 0; }},
        {"sleep", ESHUTDOWN, [&] { return comm.sleep(&nap); }},
        {"unsleep of a timer that does not run", ENOENT, [&] { return comm.unsleep(&nap); }},
        {"io_bind", ESHUTDOWN, [&] { return comm.io_bind(&files); }},
        {"watch", EPERM, [&] { return comm.watch(&watch, 0, false); }},
        {"unwatch of what is not watched", ENOENT, [&] { return comm.unwatch(&watch); }},
        {"is_handler_thread", 0, [&] { return comm.is_handler_thread(); }},
        {"deinit", 0, [&] { return comm.deinit(), 0; }},
        {"drain", 0, [&] { return service.drain(INT_MAX); }},
        {"drain of a negative number", 0, [&] { return service.drain(INT_MIN); }},
        {"pause_accept", 0, [&] { return service.pause_accept(), 0; }},
        {"resume_accept", 0, [&] { return service.resume_accept(), 0; }},
        {"get_local_addr", ENOTCONN,
         [&] {
             Address here;
             here.size = sizeof here.storage;
             return service.get_local_addr(here.get(), &here.size);
         }},
        {"close_idle of a target without connections", 0, [&] { return target.close_idle(), 0; }},
        {"has_idle_conn", 0, [&] { return target.has_idle_conn(); }},
    };
}

} // namespace

TEST_CASE("before init() and after deinit() every call says that there is nothing, and nothing happens") {
    Communicator comm;
    Lines service;
    Address at = loopback();
    REQUIRE(service.init(at.get(), at.size, -1, -1) == 0);
    Target target(loopback(1));
    Ask ask("x");
    Nap nap(0ms);
    Push push(&ask);
    Watch watch;
    Files files;
    REQUIRE(files.init(16) == 0);
    auto calls = without_communicator(comm, service, target, ask, nap, push, watch, files);
    all_refused(calls);
    CHECK(comm.loops() == 0);
    CHECK(comm.loop(0) == nullptr);
    CHECK(comm.increase_handler_thread() == -1);
    CHECK(comm.decrease_handler_thread() == -1);
    REQUIRE(comm.init(2, 1) == 0);
    CHECK(comm.loop(2) == nullptr);
    CHECK(comm.loop(SIZE_MAX) == nullptr);
    comm.deinit();
    all_refused(calls);
    CHECK(comm.increase_handler_thread() == -1);
    CHECK(errno == ESHUTDOWN);
    CHECK(ask.handled == 0);
    CHECK(nap.handled == 0);
    CHECK(push.handled == 0);
    CHECK(watch.handled == 0);
    CHECK(service.unbound.count() == 0);
    CHECK(target.released == 0);
    files.deinit();
    CHECK(files.unbound == 0);
    service.deinit();
    service.deinit();
    target.deinit();
    target.deinit();
}

TEST_CASE("while a Communicator runs, what makes no sense is refused and what goes on goes on") {
    for (size_t handlers : {0U, 1U}) {
        CAPTURE(handlers);
        Running comm(1, handlers);
        Lines service;
        service.hold = true;
        REQUIRE(service.start(comm) == 0);
        Target target(service.address());
        Ask never("x"), under_way("x");
        Nap idle(0ms), fired(0ms);
        Watch watch;
        Files files;
        REQUIRE(files.init(16) == 0);
        REQUIRE(comm.sleep(&fired) == 0);
        REQUIRE(fired.done.wait());
        REQUIRE(comm.request(&under_way, &target) == 0);
        Served *session = service.take();
        REQUIRE(session != nullptr);
        all_refused({
            {"init", EALREADY, [&] { return comm.init(1, 1); }},
            {"bind of a bound service", EEXIST, [&] { return comm.bind(&service); }},
            {"request with a service's session", EINVAL, [&] { return comm.request(session, &target); }},
            {"reply with a client's session", EINVAL, [&] { return comm.reply(&never); }},
            {"shutdown of a client's session", EINVAL, [&] { return comm.shutdown(&under_way); }},
            {"push on a session that was never sent", ENOENT, [&] { return comm.push("x", 1, &never); }},
            {"cancel of a session that was never sent", ENOENT, [&] { return comm.cancel(&never); }},
            {"unsleep of a timer that never ran", ENOENT, [&] { return comm.unsleep(&idle); }},
            {"watch off the loop", EPERM, [&] { return comm.watch(&watch, 0, false); }},
            {"unwatch of what is not watched", ENOENT, [&] { return comm.unwatch(&watch); }},
        });
        REQUIRE(run_on(comm.loop(0), [&] {
            all_refused({
                {"deinit on a loop", EDEADLK,
                 [&] {
                     comm.deinit();
                     return errno == EDEADLK ? -1 : 0;
                 }},
                {"push before the answer began", ENOENT, [&] { return comm.push("x", 1, &under_way); }},
                {"watch of no descriptor", EBADF, [&] { return comm.watch(&watch, -1, false); }},
            });
        }));
        // The one reply, and then what comes too late.
        session->kept = true;
        session->out.text = "answer";
        REQUIRE(comm.reply(session) == 0);
        REQUIRE(under_way.done.wait());
        REQUIRE(service.ended.wait());
        CHECK(under_way.is(CS_STATE_SUCCESS, 0));
        all_refused({
            {"a second reply", ENOENT, [&] { return comm.reply(session); }},
            {"shutdown after the reply", ENOENT, [&] { return comm.shutdown(session); }},
            {"push after the reply", ENOENT, [&] { return comm.push("x", 1, session); }},
            {"cancel after the reply", ENOENT, [&] { return comm.cancel(session); }},
            {"cancel of a client's session that is over", ENOENT, [&] { return comm.cancel(&under_way); }},
        });
        REQUIRE(run_on(comm.loop(0), [&] {
            all_refused({
                {"push on a client's session that is over", ENOENT,
                 [&] { return comm.push("x", 1, &under_way); }},
            });
        }));
        delete session;
        // And the service that was refused so much serves on.
        service.hold = false;
        Ask again("again");
        REQUIRE(comm.request(&again, &target) == 0);
        REQUIRE(again.done.wait());
        CHECK(again.is(CS_STATE_SUCCESS, 0));
        comm.unbind(&service);
        comm.unbind(&service);
        comm.unbind(&service, 0);
        REQUIRE(service.unbound.wait());
        CHECK(service.unbound.count() == 1);
        CHECK(never.handled == 0);
        CHECK(watch.handled == 0);
        files.deinit();
    }
}

TEST_CASE("reply, push and shutdown after the connection was closed are ENOENT, whoever closed it") {
    Running comm(1, 1);
    Lines service;
    service.hold = true;
    REQUIRE(service.start(comm) == 0);
    for (bool by_peer : {true, false}) {
        CAPTURE(by_peer);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        if (by_peer) {
            client.reset();
            REQUIRE(eventually([&] { return !session->peer_there(); }));
        } else {
            CHECK(comm.shutdown(session) == 0);
            CHECK(client.at_end());
        }
        all_refused({
            {"reply", ENOENT, [&] { return comm.reply(session); }},
            {"shutdown", ENOENT, [&] { return comm.shutdown(session); }},
            {"push", ENOENT, [&] { return comm.push("x", 1, session); }},
            {"cancel", ENOENT, [&] { return comm.cancel(session); }},
        });
        delete session;
    }
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}
