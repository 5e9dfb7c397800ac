#include <doctest/doctest.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::scope;
using parley::task;

namespace {

task<> count_after_yields(int yields, int &count) {
    for (int i = 0; i < yields; ++i)
        co_await parley::yield();
    ++count;
}

task<> fail_after_yields(int yields, const char *what) {
    for (int i = 0; i < yields; ++i)
        co_await parley::yield();
    throw std::runtime_error(what);
}

// Ends only by a cancel, and tells.
task<> wait_for_cancel(int &cancelled) {
    struct note {
        int &count;
        ~note() { ++count; }
    } at_end{cancelled};
    co_await parley::sleep_for(std::chrono::hours(24));
    FAIL("not cancelled");
}

std::string message_of(const std::exception_ptr &e) {
    try {
        std::rethrow_exception(e);
    } catch (const std::exception &caught) {
        return caught.what();
    } catch (...) {
        return "?";
    }
}

} // namespace

TEST_CASE("a scope waits for its children") {
    no_frames_left check;
    int done = 0;
    parley::run([](int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 10; ++i)
                s.spawn(count_after_yields(i, count));
            CHECK(count == 0);
            CHECK(s.children() == 10);
            co_return;
        });
        CHECK(count == 10);
    }(done));
    CHECK(done == 10);
}

TEST_CASE("a scope without children ends with its body, and gives the body's value") {
    no_frames_left check;
    std::string s = parley::run([]() -> task<std::string> {
        std::string value = co_await parley::with_scope([](scope &) -> task<std::string> {
            co_await parley::yield();
            co_return "value";
        });
        std::unique_ptr<int> p = co_await parley::with_scope(
            [](scope &) -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(1); });
        co_return value + std::to_string(*p);
    }());
    CHECK(s == "value1");
}

TEST_CASE("children start in the order in which they were spawned, after the body has suspended") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &o) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 1; i <= 3; ++i) {
                s.spawn([](std::vector<int> &list, int n) -> task<> {
                    list.push_back(n);
                    co_return;
                }(o, i));
            }
            o.push_back(0);
            co_return;
        });
    }(order));
    CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("children may spawn into their scope, also after the body has ended") {
    no_frames_left check;
    int done = 0;
    parley::run([](int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([](scope &mine, int &c) -> task<> {
                co_await parley::yield();
                co_await parley::yield();
                mine.spawn(count_after_yields(3, c));
            }(s, count));
            co_return;
        });
    }(done));
    CHECK(done == 1);
}

TEST_CASE("spawn keeps a function alive as long as its task") {
    no_frames_left check;
    std::string seen;
    parley::run([](std::string &out) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            auto text = std::make_unique<std::string>("captured and kept");
            s.spawn([&out, t = std::move(text)]() -> task<> {
                co_await parley::yield();
                co_await parley::sleep_for(1ms);
                out = *t;
            });
            co_return;
        });
    }(seen));
    CHECK(seen == "captured and kept");
}

TEST_CASE("the first exception of a child cancels the others and the body and is thrown after the join") {
    no_frames_left check;
    int cancelled = 0;
    std::string what;
    parley::run([](int &count, std::string &text) -> task<> {
        try {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn(wait_for_cancel(count));
                s.spawn(fail_after_yields(3, "child"));
                s.spawn(wait_for_cancel(count));
                co_await wait_for_cancel(count);
            });
        } catch (const std::runtime_error &e) {
            CHECK(count == 3);
            text = e.what();
        }
    }(cancelled, what));
    CHECK(what == "child");
}

TEST_CASE("an exception of the body cancels the children and is thrown after the join") {
    no_frames_left check;
    int cancelled = 0;
    CHECK_THROWS_WITH_AS(parley::run([](int &count) -> task<> {
                             co_await parley::with_scope([&](scope &s) -> task<> {
                                 s.spawn(wait_for_cancel(count));
                                 co_await parley::yield();
                                 throw std::runtime_error("body");
                             });
                         }(cancelled)),
                         "body", std::runtime_error);
    CHECK(cancelled == 1);
}

TEST_CASE("exceptions after the first are handed over in order") {
    no_frames_left check;
    std::vector<std::exception_ptr> others;
    CHECK_THROWS_WITH_AS(parley::run([](std::vector<std::exception_ptr> &rest) -> task<> {
                             co_await parley::with_scope(rest, [&](scope &s) -> task<> {
                                 for (const char *text : {"first", "second", "third"}) {
                                     s.spawn([](const char *t) -> task<> {
                                         try {
                                             co_await parley::sleep_for(std::chrono::hours(1));
                                         } catch (const parley::cancelled &) {
                                         }
                                         throw std::runtime_error(t);
                                     }(text));
                                 }
                                 co_await parley::yield();
                                 throw std::logic_error("zeroth");
                             });
                         }(others)),
                         "zeroth", std::logic_error);
    REQUIRE(others.size() == 3);
    CHECK(message_of(others[0]) == "first");
    CHECK(message_of(others[2]) == "third");
}

TEST_CASE("a scope can be cancelled by its body and returns normally") {
    no_frames_left check;
    int cancelled = 0;
    bool after = false;
    parley::run([](int &count, bool &went_on) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 5; ++i)
                s.spawn(wait_for_cancel(count));
            co_await parley::yield();
            s.cancel();
            s.cancel();
            CHECK(s.cancelled());
        });
        co_await parley::yield();
        went_on = true;
    }(cancelled, after));
    CHECK(cancelled == 5);
    CHECK(after);
}

TEST_CASE("a child can cancel its scope, the body included") {
    no_frames_left check;
    int cancelled = 0;
    parley::run([](int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([](scope &mine) -> task<> {
                co_await parley::yield();
                mine.cancel();
            }(s));
            co_await wait_for_cancel(count);
        });
    }(cancelled));
    CHECK(cancelled == 1);
}

TEST_CASE("a body with a value that is stopped by its scope's cancel has none to give") {
    no_frames_left check;
    CHECK_THROWS_AS(parley::run([]() -> task<int> {
                        int x = co_await parley::with_scope([](scope &s) -> task<int> {
                            s.cancel();
                            co_await parley::yield();
                            co_return 1;
                        });
                        co_return x;
                    }()),
                    parley::exception);
}

TEST_CASE("what is spawned into a cancelled scope does not begin and is destroyed") {
    no_frames_left check;
    bool ran = false;
    parley::run([](bool &r) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.cancel();
            s.spawn([](bool &flag) -> task<> {
                flag = true;
                co_return;
            }(r));
            s.spawn([&r]() -> task<> {
                r = true;
                co_return;
            });
            co_return;
        });
    }(ran));
    CHECK(!ran);
}

TEST_CASE("a child that is cancelled before it began ends at its first await") {
    no_frames_left check;
    int reached = 0;
    parley::run([](int &r) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([](int &x) -> task<> {
                x = 1;
                co_await parley::yield();
                x = 2;
            }(r));
            s.cancel();
            co_return;
        });
    }(reached));
    CHECK(reached == 1);
}

TEST_CASE("cancelling a scope's task cancels what is nested in it, and the scope passes it on") {
    no_frames_left check;
    int cancelled = 0;
    bool after_inner = false;
    parley::run([](int &count, bool &after) -> task<> {
        co_await parley::with_scope([&](scope &outer) -> task<> {
            outer.spawn([](int &c, bool &a) -> task<> {
                co_await parley::with_scope([&](scope &inner) -> task<> {
                    inner.spawn(wait_for_cancel(c));
                    inner.spawn(wait_for_cancel(c));
                    co_await wait_for_cancel(c);
                });
                a = true;
            }(count, after));
            for (int i = 0; i < 5; ++i)
                co_await parley::yield();
            outer.cancel();
        });
    }(cancelled, after_inner));
    CHECK(cancelled == 3);
    CHECK(!after_inner);
}

TEST_CASE("a child's exception is not lost when its scope is being cancelled from outside") {
    no_frames_left check;
    std::string text;
    parley::run([](std::string &what) -> task<> {
        co_await parley::with_scope([&](scope &outer) -> task<> {
            outer.spawn([](std::string &w) -> task<> {
                try {
                    co_await parley::with_scope([](scope &inner) -> task<> {
                        inner.spawn([]() -> task<> {
                            try {
                                co_await parley::sleep_for(std::chrono::hours(1));
                            } catch (const parley::cancelled &) {
                            }
                            throw std::runtime_error("while stopping");
                        }());
                        co_return;
                    });
                } catch (const std::runtime_error &e) {
                    w = e.what();
                }
            }(what));
            co_await parley::yield();
            co_await parley::yield();
            co_await parley::yield();
            outer.cancel();
        });
    }(text));
    CHECK(text == "while stopping");
}

TEST_CASE("an exception thrown before the body is a coroutine is thrown by the await") {
    no_frames_left check;
    CHECK_THROWS_WITH_AS(parley::run([]() -> task<> {
                             co_await parley::with_scope(
                                 [](scope &) -> task<> { throw std::runtime_error("early"); });
                         }()),
                         "early", std::runtime_error);
    CHECK_THROWS_AS(
        parley::run([]() -> task<> { co_await parley::with_scope([](scope &) { return task<>(); }); }()),
        std::invalid_argument);
}

TEST_CASE("a body that is a plain function may spawn, cancel and throw before it returns a task") {
    no_frames_left check;
    int count = 0;
    parley::run([](int &n) -> task<> {
        co_await parley::with_scope([&](scope &s) {
            s.spawn(count_after_yields(2, n));
            return count_after_yields(1, n);
        });
        CHECK(n == 2);
        co_await parley::with_scope([&](scope &s) {
            s.spawn(wait_for_cancel(n));
            s.cancel();
            return wait_for_cancel(n);
        });
        CHECK(n == 4);
        try {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn(count_after_yields(0, n));
                throw std::runtime_error("no body");
            });
            FAIL("an exception was expected");
        } catch (const std::runtime_error &) {
            CHECK(n == 5);
        }
    }(count));
}

TEST_CASE("a named scope can be awaited twice") {
    no_frames_left check;
    int count = 0;
    parley::run([](int &n) -> task<> {
        auto body = [&](scope &s) -> task<> {
            s.spawn(count_after_yields(1, n));
            s.cancel();
            co_return;
        };
        auto twice = parley::with_scope(body);
        co_await twice;
        co_await twice;
    }(count));
    CHECK(count == 0);
}

TEST_CASE("a named body that only moves is kept by reference") {
    no_frames_left check;
    int value = parley::run([]() -> task<int> {
        auto owned = std::make_unique<int>(9);
        auto body = [p = std::move(owned)](scope &) -> task<int> {
            co_await parley::yield();
            co_return *p;
        };
        int x = co_await parley::with_scope(body);
        co_return x;
    }());
    CHECK(value == 9);
}

TEST_CASE("a task that swallows its cancel is stopped again by every further await") {
    no_frames_left check;
    int attempts = 0;
    parley::run([](int &n) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([](int &tries) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    try {
                        co_await parley::sleep_for(std::chrono::hours(1));
                    } catch (const parley::cancelled &) {
                        ++tries;
                    }
                }
            }(n));
            co_await parley::yield();
            s.cancel();
        });
    }(attempts));
    CHECK(attempts == 3);
}

TEST_CASE("ten thousand children sleep and are cancelled together") {
    no_frames_left check;
    int cancelled = 0;
    parley::run([](int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 10'000; ++i)
                s.spawn(wait_for_cancel(count));
            co_await parley::yield();
            s.cancel();
        });
    }(cancelled));
    CHECK(cancelled == 10'000);
}
