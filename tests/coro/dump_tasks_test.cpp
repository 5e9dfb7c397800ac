#include <doctest/doctest.h>

#include <atomic>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <csignal>
#include <unistd.h>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "coro_test.hpp"
#include "signals_test.hpp"

using namespace std::chrono_literals;
using parley::runtime;
using parley::scope;
using parley::task;

#if PARLEY_SIGHT

namespace {

parley::dump_options patient() {
    parley::dump_options o;
    o.patience = 60s;
    return o;
}

std::string text_of(runtime &rt) {
    std::ostringstream out;
    parley::dump_tasks(out, rt, patient());
    return out.str();
}

std::string json_of(runtime &rt) {
    std::ostringstream out;
    parley::dump_tasks_json(out, rt, patient());
    return out.str();
}

std::size_t count(const std::string &text, const std::string &what) {
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
        ++n;
    return n;
}

std::string line_with(const std::string &text, const std::string &what) {
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (line.find(what) != std::string::npos)
            return line;
    }
    return {};
}

std::size_t indent(const std::string &line) {
    return line.find_first_not_of(' ');
}

std::string at(int line) {
    return "dump_tasks_test.cpp:" + std::to_string(line) + " ";
}

// The lines of the awaits, so that the tests need not be changed with every line above.
int lines[6];

task<> five(parley::event &e) {
    lines[5] = __LINE__ + 1;
    co_await e.wait();
}
task<> four(parley::event &e) {
    lines[4] = __LINE__ + 1;
    co_await five(e);
}
task<> three(parley::event &e) {
    lines[3] = __LINE__ + 1;
    co_await four(e);
}
task<> two(parley::event &e) {
    lines[2] = __LINE__ + 1;
    co_await three(e);
}
task<> one(parley::event &e) {
    lines[1] = __LINE__ + 1;
    co_await two(e);
}

task<> let_others_wait() {
    for (int i = 0; i < 10; ++i)
        co_await parley::yield();
}

// Whether it is JSON: as much of the grammar as is needed, by descent.
class json_check {
public:
    static bool is_valid(const std::string &text) {
        json_check c{text};
        return c.value() && c.skip() == text.size();
    }

private:
    explicit json_check(const std::string &text) : text_(text) {}
    std::size_t skip() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n'))
            ++at_;
        return at_;
    }
    bool take(char c) {
        if (skip() >= text_.size() || text_[at_] != c)
            return false;
        ++at_;
        return true;
    }
    bool string() {
        if (!take('"'))
            return false;
        for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
            if (static_cast<unsigned char>(text_[at_]) < 0x20)
                return false;
            if (text_[at_] == '\\')
                ++at_;
        }
        return take('"');
    }
    bool value() {
        skip();
        if (at_ >= text_.size())
            return false;
        if (text_[at_] == '"')
            return string();
        if (text_[at_] == '{' || text_[at_] == '[')
            return list(text_[at_] == '{');
        const std::size_t from = at_;
        while (at_ < text_.size() && (text_[at_] == '.' || (text_[at_] >= '0' && text_[at_] <= '9')))
            ++at_;
        return at_ > from;
    }
    bool list(bool object) {
        take(object ? '{' : '[');
        if (take(object ? '}' : ']'))
            return true;
        do {
            if ((object && !(string() && take(':'))) || !value())
                return false;
        } while (take(','));
        return take(object ? '}' : ']');
    }

    const std::string &text_;
    std::size_t at_ = 0;
};

struct text_lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

} // namespace

TEST_CASE("a chain of five tasks is listed as five lines, each at its co_await") {
    no_frames_left check;
    runtime rt(on_loops(1));
    std::string text;
    rt.sync_wait([&]() -> task<> {
        parley::event e;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(one(e));
            co_await let_others_wait();
            text = text_of(rt);
            e.set();
        });
    }());
    std::size_t outer = indent(line_with(text, at(lines[1])));
    for (int i = 1; i <= 5; ++i) {
        CAPTURE(text);
        CHECK(count(text, at(lines[i])) == 1);
        CHECK(indent(line_with(text, at(lines[i]))) == outer + 2 * static_cast<std::size_t>(i - 1));
    }
    CHECK(line_with(text, at(lines[5])).find(": event, ") != std::string::npos);
    CHECK(line_with(text, at(lines[4])).find(": event") == std::string::npos);
    CHECK(count(text, ": running") == 1); // the body of the scope, which looks
}

TEST_CASE("ten thousand tasks that wait alike are one line with their number, and each an entry in JSON") {
    no_frames_left check;
    runtime rt(on_loops(2));
    std::string text;
    std::string json;
    rt.sync_wait([&]() -> task<> {
        parley::event e;
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 10'000; ++i)
                s.spawn(five(e));
            co_await let_others_wait();
            text = text_of(rt);
            json = json_of(rt);
            e.set();
        });
    }());
    CHECK(count(text, "10000 times, the oldest: ") == 1);
    CHECK(count(text, at(lines[5])) == 1);
    CHECK(count(json, "\"awaits\":\"event\"") == 10'000);
    CHECK(json_check::is_valid(json));
    CHECK(!json_check::is_valid(json + "}"));
}

TEST_CASE("the children of when_all hang below the task that awaits it; names are shown") {
    no_frames_left check;
    runtime rt(on_loops(1));
    std::string text;
    std::string json;
    rt.sync_wait([&]() -> task<> {
        parley::event e;
        auto all = [&]() -> task<> {
            co_await parley::when_all(parley::named("the \"first\"", five(e)), five(e),
                                      parley::sleep_for(1h));
        };
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(parley::named("three", all()));
            co_await let_others_wait();
            text = text_of(rt);
            json = json_of(rt);
            s.cancel();
        });
    }());
    CAPTURE(text);
    const std::string parent = line_with(text, "\"three\"");
    const std::string child = line_with(text, "\"the \"first\"\" ");
    CHECK(parent.find(": when_all") != std::string::npos);
    CHECK(indent(child) == indent(parent) + 2);
    CHECK(child.find(at(lines[5])) != std::string::npos);
    CHECK(indent(line_with(text, "sleep")) == indent(parent) + 2);
    CHECK(json.find("\"name\":\"the \\\"first\\\"\"") != std::string::npos);
    CHECK(json_check::is_valid(json));
}

TEST_CASE("a task that is away hangs below its parent, with what it awaits on the other loop") {
    no_frames_left check;
    runtime rt(on_loops(2));
    std::string text;
    rt.sync_wait(rt.loop(0), [&]() -> task<> {
        parley::event there;
        parley::event go;
        auto away = [&]() -> task<> {
            co_await parley::resume_on(rt.loop(1));
            there.set();
            co_await five(go);
        };
        auto parent = [&]() -> task<> { co_await away(); };
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(parley::named("traveller", parent()));
            co_await there.wait();
            text = text_of(rt);
            go.set();
        });
    }());
    CAPTURE(text);
    const std::string home = line_with(text, "\"traveller\"");
    CHECK(home.find("another loop") != std::string::npos);
    CHECK(line_with(text, ", on loop 1") != "");
    CHECK(indent(line_with(text, at(lines[5]))) > indent(home));
}

TEST_CASE("a handler in recv shows its peer and descriptor, and its connection is listed") {
    no_frames_left check;
    runtime rt(on_loops(1));
    std::string text;
    rt.sync_wait([&]() -> task<> {
        parley::event served;
        parley::server<text_lines> door(parley::endpoint("127.0.0.1", 0),
                                        [&](parley::connection<text_lines> peer) -> task<> {
                                            while (auto m = co_await peer.recv()) {
                                                auto sent = co_await peer.send(*m);
                                                served.set();
                                            }
                                        });
        auto local = co_await door.listen();
        REQUIRE(local);
        parley::client<text_lines> client(*local);
        auto answer = co_await client.request(parley::line_message("hello"));
        CHECK(answer);
        co_await served.wait();
        co_await let_others_wait();
        text = text_of(rt);
        auto closed = co_await door.close();
        CHECK(closed);
    }());
    CAPTURE(text);
    CHECK(line_with(text, "handler of 127.0.0.1:").find(": recv 127.0.0.1:") != std::string::npos);
    CHECK(line_with(text, "handler of 127.0.0.1:").find(", fd ") != std::string::npos);
    CHECK(line_with(text, "  connection 127.0.0.1:").find(", fd ") != std::string::npos);
}

TEST_CASE("a loop that does not answer is listed as blocked, with the place of its task") {
    no_frames_left check;
    runtime rt(on_loops(1));
    std::atomic<bool> holds{false};
    std::atomic<bool> go{false};
    int line = 0;
    std::thread blocker([&] {
        rt.sync_wait([&]() -> task<> {
            line = __LINE__ + 1;
            co_await parley::yield();
            holds = true;
            holds.notify_all();
            go.wait(false);
        }());
    });
    holds.wait(false);
    std::ostringstream out;
    parley::dump_options hasty;
    hasty.patience = 1ms;
    parley::dump_tasks(out, hasty);
    CHECK(out.str().find("loop 0: blocked in the task resumed at ") != std::string::npos);
    CHECK(out.str().find(at(line)) != std::string::npos);
    go = true;
    go.notify_all();
    blocker.join();
}

TEST_CASE("tasks that begin, move, wait and end are listed from a thread and from tasks all the while") {
    no_frames_left check;
    std::atomic<bool> over{false};
    std::thread looker([&] {
        while (!over) {
            std::ostringstream out;
            parley::dump_tasks(out);
            parley::dump_tasks_json(out);
        }
    });
    for (int round = 0; round < 3; ++round) {
        runtime rt(on_loops(2)); // ends while it is looked at
        auto mover = [&](std::size_t i) -> task<> {
            co_await parley::resume_on(rt.loop(i % 2));
            co_await parley::yield();
            co_await parley::sleep_for(10us);
            if (i == 50) {
                std::ostringstream out;
                parley::dump_tasks(out, rt);
            }
            co_await parley::resume_on(rt.loop((i + 1) % 2));
            co_await parley::yield();
        };
        rt.sync_wait([&]() -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                for (std::size_t i = 0; i < 100; ++i) {
                    s.spawn(mover(i));
                    co_await parley::yield();
                }
            });
        }());
    }
    over = true;
    looker.join();
}

TEST_CASE("a signal has the tasks written") {
    no_frames_left check;
    counted_flushes buffer;
    std::ostream out(&buffer);
    runtime rt(on_loops(1));
    rt.sync_wait([&]() -> task<> {
        parley::event e;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(five(e));
            co_await let_others_wait();
            co_await parley::compute([&] {
                parley::dump_on_signal usr1(SIGUSR1, out, patient());
                for (int i = 0; i < 2; ++i) {
                    ::kill(::getpid(), SIGUSR1);
                    buffer.flushes.wait(i);
                }
            });
            e.set();
        });
    }());
    const std::string text = buffer.str();
    CHECK(count(text, at(lines[5])) == 2);
    CHECK(count(text, ": compute") == 2);
    CHECK_THROWS_AS(parley::dump_on_signal(65, out), std::system_error);
}

TEST_CASE("a deep chain is cut in the middle") {
    no_frames_left check;
    runtime rt(on_loops(1));
    std::string text;
    rt.sync_wait([&]() -> task<> {
        struct deep {
            static task<> down(int n, parley::event &e) {
                if (n > 0)
                    co_await down(n - 1, e);
                else
                    co_await e.wait();
            }
        };
        parley::event e;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(deep::down(999, e));
            for (int i = 0; i < 4; ++i) // a chain yields now and then
                co_await let_others_wait();
            text = text_of(rt);
            s.cancel();
        });
    }());
    CHECK(text.find("(936 more tasks between)") != std::string::npos);
}

#else

TEST_CASE("without PARLEY_SIGHT the list says why it is empty") {
    std::ostringstream out;
    parley::dump_tasks(out);
    CHECK(out.str() == "parley was built without PARLEY_SIGHT: tasks cannot be listed\n");
}

#endif
