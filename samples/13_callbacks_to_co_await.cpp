// From callbacks to co_await, and back: an old library with a C callback is awaited and can be cancelled, a
// session of the callback core gets an awaiter, and a callback starts a coroutine.
// Run it: the jobs, the questions and their answers are all of this program.

#include <chrono>
#include <functional>
#include <future>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "echo_target.hpp"
#include "old_library.hpp"
#include "run_sample.hpp"

using namespace std::chrono_literals;

// [library]
// old_library::start(int milliseconds, void (*done)(int status, void *user), void *user), and abort()
parley::task<int> run_job(old_library &library, int milliseconds) {
    auto begin = [&](auto &done) { library.start(milliseconds, done.invoke, done.data()); };
    auto hook = [&] { library.abort(); }; // done is still called, soon
    co_return co_await parley::from_callback<int>(begin, hook);
}
// [/library]

// [session]
struct question : CommSession { // as the callback program has it
    explicit question(const char *text) : line(text) {}
    CommMessageOut *message_out() override { return &line; }
    CommMessageIn *message_in() override { return &answer; }
    void handle(int state, int) override { on_end(state); }
    parley::line_message line, answer;
    std::function<void(int)> on_end;
};

auto ask(Communicator &comm, CommTarget &whom, question &asked) { // and its awaiter
    return parley::from_callback<int>(
        [&](auto &done) {
            asked.on_end = [&done](int state) { done(state); };
            if (comm.request(&asked, &whom) < 0)
                done(CS_STATE_ERROR);
        },
        [&comm, ticket = asked.ticket()] { comm.cancel(ticket); });
}
// [/session]

parley::task<> talk(parley::runtime &rt, old_library &library) {
    auto late = co_await parley::with_timeout(50ms, run_job(library, 3'600'000));
    const int status = co_await run_job(library, 10);
    std::cout << "library: " << late.error().message() << ", then " << status << std::endl;
    echo_target whom;
    co_await whom.open();
    question asked("hello");
    if (const int state = co_await ask(rt.communicator(), whom, asked); state == CS_STATE_SUCCESS)
        std::cout << "session: " << asked.answer.text() << std::endl;
}

// [start]
struct program {
    old_library library;
    std::promise<void> over;
    parley::runtime rt; // the last: its tasks end before what they use
};

void job_done(int, void *user) { // on the library's thread; from here on a coroutine does the work
    program &p = *static_cast<program *>(user);
    p.rt.start(talk(p.rt, p.library), [&p](parley::outcome<> how) {
        how.exception() ? p.over.set_exception(how.exception()) : p.over.set_value();
    });
}
// [/start]

int main(int argc, char **argv) {
    parse_arguments(argc, argv, "");
    program p;
    p.library.start(10, job_done, &p);
    return wait_until(argv[0], p.over);
}
