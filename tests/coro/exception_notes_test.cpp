#include <doctest/doctest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <parley/core/Sync.h>
#include <parley/parley.hpp>

#include "coro_test.hpp"

using parley::await_trace;
using parley::other_exceptions;
using parley::scope;
using parley::task;
using parley::detail::attach_other;
using parley::detail::attach_site;
using parley::detail::noted_exceptions;

namespace {

std::string message_of(const std::exception_ptr &e) {
    try {
        std::rethrow_exception(e);
    } catch (const std::exception &caught) {
        return caught.what();
    } catch (...) {
        return "?";
    }
}

template <class E>
std::exception_ptr thrown(E value) {
    try {
        throw value;
    } catch (...) {
        return std::current_exception();
    }
}

std::string lines_of(const std::exception_ptr &e) {
    std::string lines;
    for (const std::source_location &site : await_trace(e))
        lines += std::to_string(site.line()) + ' ';
    return lines;
}

// Checks at the end of its block that the notes ended with their exceptions.
class no_notes_left {
public:
    no_notes_left() = default;
    no_notes_left(const no_notes_left &) = delete;
    ~no_notes_left() { CHECK(noted_exceptions() == before_); }

private:
    std::size_t before_ = noted_exceptions();
};

// An exception whose objects are counted; it has a destructor.
struct counted {
    explicit counted(int &count) noexcept : alive(&count) { ++count; }
    counted(const counted &other) noexcept : alive(other.alive) { ++*alive; }
    counted &operator=(const counted &) = delete;
    ~counted() { --*alive; }
    int *alive;
};

// Between which addresses of the stack the destructors of on_stack ran.
struct stack_span {
    std::uintptr_t lowest = UINTPTR_MAX;
    std::uintptr_t highest = 0;
    int ended = 0;
};

struct on_stack {
    explicit on_stack(stack_span &where) noexcept : span(&where) {}
    on_stack(const on_stack &) = default;
    on_stack &operator=(const on_stack &) = delete;
    ~on_stack() {
        const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        span->lowest = std::min(span->lowest, here);
        span->highest = std::max(span->highest, here);
        ++span->ended;
    }
    stack_span *span;
};

task<> throw_at_once() {
    throw std::runtime_error("inner");
    co_return;
}

const unsigned middle_line = std::source_location::current().line() + 2;
task<> middle() {
    co_await throw_at_once();
}

const unsigned outer_line = std::source_location::current().line() + 3;
task<> outer() {
    co_await parley::yield();
    co_await middle();
}

task<> sink(int depth) {
    if (depth == 0)
        throw std::runtime_error("deep");
    co_await sink(depth - 1);
}

// What is written to standard error while it lives.
class standard_error {
public:
    standard_error() {
        std::fflush(stderr);
        ::dup2(file_, 2);
    }
    standard_error(const standard_error &) = delete;
    ~standard_error() {
        ::dup2(before_, 2);
        ::close(before_);
        ::close(file_);
    }
    std::string text() const {
        std::fflush(stderr);
        std::string all(65536, '\0');
        const ssize_t size = ::pread(file_, all.data(), all.size(), 0);
        all.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        return all;
    }

private:
    int before_ = ::dup(2);
    int file_ = ::memfd_create("stderr", 0);
};

// Destroyed after main(), with notes.
std::exception_ptr held_to_the_end;

} // namespace

TEST_CASE("an exception that leaves tasks lists their awaits, innermost first") {
    no_notes_left check;
    try {
        parley::run(outer());
        FAIL("nothing thrown");
    } catch (const std::runtime_error &) {
        const parley::await_sites sites = await_trace();
        REQUIRE(sites.size() == 2);
        CHECK(sites[0].line() == middle_line);
        CHECK(sites[1].line() == outer_line);
        CHECK(std::strstr(sites[0].file_name(), "exception_notes_test.cpp") != nullptr);
        CHECK(std::strstr(sites[1].function_name(), "outer") != nullptr);
        CHECK(sites.omitted() == 0);
        std::ostringstream text;
        text << sites;
        CHECK(text.str().starts_with("  awaited at "));
        // g++ calls the body of a coroutine "void outer(outer()::_Z5outerv.Frame*)".
        const std::string said = text.str(), last = said.substr(said.rfind(" in "));
        CHECK(last.ends_with("outer()\n"));
        CHECK(said.find(":" + std::to_string(outer_line) + last) != std::string::npos);
        CHECK(said.find("Frame") == std::string::npos);
    }
}

TEST_CASE("an await that ended well, or whose exception was caught, is not listed") {
    no_notes_left check;
    try {
        parley::run([]() -> task<> {
            co_await parley::yield();
            try {
                co_await throw_at_once();
            } catch (const std::runtime_error &) {
            }
            throw std::logic_error("its own");
        }());
        FAIL("nothing thrown");
    } catch (const std::logic_error &) {
        CHECK(await_trace().empty());
    }
}

TEST_CASE("an operation's own exception lists the await of the operation") {
    no_notes_left check;
    unsigned line = 0;
    try {
        parley::run([](unsigned &here) -> task<> {
            here = std::source_location::current().line() + 1;
            co_await parley::compute([] { throw std::runtime_error("computed"); });
        }(line));
        FAIL("nothing thrown");
    } catch (const std::runtime_error &) {
        const parley::await_sites sites = await_trace();
        REQUIRE(sites.size() == 1);
        CHECK(sites[0].line() == line);
    }
}

TEST_CASE("a child's exception lists the awaits below the scope and the scope's") {
    no_notes_left check;
    try {
        parley::run([]() -> task<> {
            co_await parley::with_scope([](scope &s) -> task<> {
                s.spawn(outer());
                co_return;
            });
        }());
        FAIL("nothing thrown");
    } catch (const std::runtime_error &) {
        const parley::await_sites sites = await_trace();
        REQUIRE(sites.size() == 3);
        CHECK(sites[0].line() == middle_line);
        CHECK(sites[1].line() == outer_line);
    }
}

TEST_CASE("the library's own wrapper of a callable child is not listed") {
    no_notes_left check;
    try {
        parley::run([]() -> task<> {
            co_await parley::with_scope([](scope &s) -> task<> {
                s.spawn([text = std::string("captured and kept")]() -> task<> {
                    co_await parley::yield();
                    co_await throw_at_once();
                });
                co_return;
            });
        }());
        FAIL("nothing thrown");
    } catch (const std::runtime_error &) {
        CHECK(await_trace().size() == 2);
        for (const std::source_location &site : await_trace())
            CHECK(std::strstr(site.file_name(), "exception_notes_test.cpp") != nullptr);
    }
}

TEST_CASE("the innermost 64 awaits are kept and the others counted") {
    no_notes_left check;
    try {
        parley::run(sink(1000));
        FAIL("nothing thrown");
    } catch (const std::runtime_error &) {
        CHECK(await_trace().size() == 64);
        CHECK(await_trace().omitted() == 936);
    }
}

TEST_CASE("a cancelled task leaves no notes") {
    no_notes_left check;
    std::size_t during = 1000;
    parley::run([](std::size_t &noted) -> task<> {
        co_await parley::with_scope([](scope &s) -> task<> {
            s.spawn([]() -> task<> { co_await parley::sleep_for(std::chrono::hours(1)); });
            co_await parley::yield();
            s.cancel();
        });
        noted = noted_exceptions();
    }(during));
    CHECK(during == noted_exceptions());
}

TEST_CASE("exceptions after a scope's first are attached to it in order") {
    no_notes_left check;
    no_frames_left frames;
    std::exception_ptr first;
    {
        standard_error output;
        try {
            parley::run([]() -> task<> {
                co_await parley::with_scope([](scope &s) -> task<> {
                    for (const char *text : {"second", "third"}) {
                        s.spawn([](const char *t) -> task<> {
                            try {
                                co_await parley::sleep_for(std::chrono::hours(1));
                            } catch (const parley::cancelled &) {
                            }
                            throw std::runtime_error(t);
                        }(text));
                    }
                    co_await parley::yield();
                    throw std::logic_error("first");
                });
            }());
        } catch (...) {
            first = std::current_exception();
        }
        CHECK(output.text().empty());
    }
    CHECK(message_of(first) == "first");
    const std::vector<std::exception_ptr> others = other_exceptions(first);
    REQUIRE(others.size() == 2);
    CHECK(message_of(others[0]) == "second");
    CHECK(message_of(others[1]) == "third");
}

TEST_CASE("a report names the exception, its awaits and the others") {
    no_notes_left check;
    const std::exception_ptr first = thrown(std::runtime_error("first"));
    attach_site(first, std::source_location::current());
    for (int i = 0; i < 10; ++i)
        attach_other(first, thrown(std::logic_error("number " + std::to_string(i))));
    standard_error output;
    parley::detail::report_exception("a test", first);
    const std::string text = output.text();
    CHECK(text.starts_with("parley: exception in a test: first\n  awaited at "));
    CHECK(text.find("\n  then another: number 0\n") != std::string::npos);
    CHECK(text.find("\n  then 2 more\n") != std::string::npos);
}

TEST_CASE("notes stay with the object and its type stays: thrown again, held, copied") {
    no_notes_left check;
    std::exception_ptr held = thrown(std::out_of_range("x"));
    CHECK(attach_site(held, std::source_location::current()));
    const std::string before = lines_of(held);
    for (int i = 0; i < 3; ++i) {
        try {
            std::rethrow_exception(held);
        } catch (const std::out_of_range &) {
            CHECK(lines_of(std::current_exception()) == before);
        }
    }
    std::exception_ptr anew;
    try {
        std::rethrow_exception(held);
    } catch (const std::out_of_range &e) {
        anew = thrown(e);
    }
    CHECK(await_trace(anew).empty());
    CHECK(await_trace(nullptr).empty());
    CHECK(other_exceptions(nullptr).empty());
    CHECK_FALSE(attach_site(nullptr, std::source_location::current()));
}

TEST_CASE("the object's own destructor runs once, at its end, and so does that of others") {
    no_notes_left check;
    int alive = 0;
    {
        std::exception_ptr first = thrown(counted(alive));
        std::exception_ptr second = thrown(counted(alive));
        std::exception_ptr trivial = thrown(7);
        CHECK(alive == 2);
        CHECK(attach_other(first, second));
        CHECK(attach_other(first, trivial));
        CHECK(attach_other(trivial, thrown(counted(alive))));
        second = nullptr;
        trivial = nullptr;
        CHECK(alive == 3);
        CHECK(other_exceptions(first).size() == 2);
        first = nullptr;
    }
    CHECK(alive == 0);
}

TEST_CASE("an exception caught by value of a catch block ends with its notes without an exception_ptr") {
    no_notes_left check;
    int alive = 0;
    try {
        throw counted(alive);
    } catch (const counted &) {
        CHECK(attach_site(std::current_exception(), std::source_location::current()));
        CHECK(await_trace().size() == 1);
    }
    CHECK(alive == 0);
}

TEST_CASE("exceptions that the standard library throws or makes have notes too") {
    no_notes_left check;
    std::exception_ptr of_library;
    try {
        std::stoi("no number");
    } catch (...) {
        of_library = std::current_exception();
    }
    CHECK(attach_site(of_library, std::source_location::current()));
    CHECK(await_trace(of_library).size() == 1);
    const std::exception_ptr made = std::make_exception_ptr(std::runtime_error("made"));
    CHECK(attach_other(made, of_library));
    of_library = nullptr;
    CHECK(message_of(other_exceptions(made)[0]).find("stoi") != std::string::npos);
}

TEST_CASE("what would keep itself alive is not attached") {
    no_notes_left check;
    const std::exception_ptr a = thrown(1);
    const std::exception_ptr b = thrown(2);
    const std::exception_ptr c = thrown(3);
    CHECK_FALSE(attach_other(a, a));
    CHECK_FALSE(attach_other(a, nullptr));
    CHECK(attach_other(a, b));
    CHECK(attach_other(b, c));
    CHECK(attach_other(a, c));
    CHECK_FALSE(attach_other(c, a));
    CHECK_FALSE(attach_other(b, a));
    CHECK(other_exceptions(c).empty());
}

TEST_CASE("a chain of exceptions, each the other of the next, ends on a flat stack") {
    no_notes_left check;
    constexpr int length = 10'000;
    stack_span span;
    std::exception_ptr last = std::make_exception_ptr(on_stack(span));
    for (int i = 1; i < length; ++i) {
        const std::exception_ptr next = std::make_exception_ptr(on_stack(span));
        REQUIRE(attach_other(next, last));
        last = next;
    }
    CHECK_FALSE(attach_other(other_exceptions(last)[0], last));
    span = {};
    last = nullptr;
    CHECK(span.ended == length);
    CHECK(span.highest - span.lowest < 16384);
}

TEST_CASE("threads note, read, throw again and drop the same and other exceptions") {
    no_notes_left check;
    int alive = 0;
    {
        const std::exception_ptr shared = thrown(counted(alive));
        parley::sync::atomic<int> sum{0};
        std::vector<parley::sync::thread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([shared, &sum] {
                for (int i = 0; i < 500; ++i) {
                    std::exception_ptr mine = thrown(std::runtime_error("mine"));
                    attach_site(mine, std::source_location::current());
                    attach_site(shared, std::source_location::current());
                    attach_other(shared, mine);
                    if (await_trace(mine).size() == 1 && !other_exceptions(shared).empty())
                        sum.fetch_add(1);
                }
            });
        }
        for (parley::sync::thread &each : threads)
            each.join();
        CHECK(sum.load() == 2000);
        CHECK(other_exceptions(shared).size() == 2000);
        CHECK(await_trace(shared).size() + await_trace(shared).omitted() == 2000);
    }
    CHECK(alive == 0);
}

TEST_CASE("an exception with notes may end on another thread") {
    no_notes_left check;
    int alive = 0;
    {
        std::exception_ptr made = thrown(counted(alive));
        attach_other(made, thrown(counted(alive)));
        parley::sync::thread([last = std::move(made)]() mutable { last = nullptr; }).join();
    }
    CHECK(alive == 0);
}

TEST_CASE("an exception with notes may be held until after main") {
    held_to_the_end = thrown(std::runtime_error("held"));
    CHECK(attach_site(held_to_the_end, std::source_location::current()));
    CHECK(attach_other(held_to_the_end, thrown(std::logic_error("with it"))));
    CHECK(other_exceptions(held_to_the_end).size() == 1);
}
