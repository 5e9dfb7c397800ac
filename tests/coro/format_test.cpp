// parley's values as text.

#include <doctest/doctest.h>

#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include <parley/parley.hpp>

using namespace std::chrono_literals;
using parley::outcome;
using parley::result;
using parley::task;

namespace {

template <class T>
std::string text(const T &value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

struct silent {};

template <class T>
concept printed = requires(std::ostream &out, const T &value) { out << value; };

const parley::error too_late(parley::errc::timed_out, parley::stage::receive, "127.0.0.1:7000", 1s);

// How the task ends, as text.
template <class T>
std::string end_of(task<T> work, bool stop = false) {
    std::string how;
    {
        parley::runtime rt;
        rt.start(std::move(work), [&how](outcome<T> &&o) { how = text(o); });
        if (stop)
            rt.stop();
    }
    return how;
}

} // namespace

TEST_CASE("a result prints its value or its error") {
    CHECK(text(result<int>(7)) == "7");
    CHECK(text(result<std::string>("a b")) == "a b");
    CHECK(text(result<>()) == "done");
    CHECK(text(result<int>(parley::unexpected(too_late))) ==
          "error: timed out: receive, 127.0.0.1:7000, after 1.000 s");
    CHECK(text(result<>(parley::unexpected(parley::errc::closed, parley::stage::send))) ==
          "error: closed: send");
    CHECK(text(result<result<int>>(result<int>(3))) == "3");
}

TEST_CASE("what holds a value that cannot be printed cannot be printed") {
    CHECK(printed<result<int>>);
    CHECK_FALSE(printed<result<silent>>);
    CHECK(printed<outcome<void>>);
    CHECK(printed<outcome<int &>>);
    CHECK_FALSE(printed<outcome<silent>>);
}

TEST_CASE("an outcome prints its value, its exception or that it was stopped") {
    int x = 5;
    CHECK(end_of([]() -> task<int> { co_return 4; }()) == "4");
    CHECK(end_of([](int &r) -> task<int &> { co_return r; }(x)) == "5");
    CHECK(end_of([]() -> task<> { co_return; }()) == "done");
    CHECK(end_of([]() -> task<> {
              throw std::runtime_error("broken");
              co_return;
          }()) == "exception: broken");
    CHECK(end_of([]() -> task<> {
              throw 3;
              co_return;
          }()) == "exception: of no standard type");
    CHECK(end_of([]() -> task<> { co_await parley::sleep_for(24h); }(), true) == "stopped");
}

TEST_CASE("an outcome whose value was looked at still has it") {
    std::string kept;
    {
        parley::runtime rt;
        rt.start([]() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(9); }(),
                 [&kept](outcome<std::unique_ptr<int>> &&o) {
                     kept = std::to_string(*o.peek());
                     std::unique_ptr<int> taken = std::move(o).get();
                     kept += std::to_string(*taken);
                 });
    }
    CHECK(kept == "99");
}

TEST_CASE("cancelled, a stage and an endpoint have their words") {
    CHECK(text(parley::cancelled()) == "cancelled");
    CHECK(text(parley::stage::pool_wait) == "pool wait");
    CHECK(text(parley::endpoint("::1", 80)) == "[::1]:80");
}

#ifdef __cpp_lib_format
TEST_CASE("std::format takes them all, with the format of a string") {
    CHECK(std::format("{}", too_late) == text(too_late));
    CHECK(std::format("{:>10}|{:.4}", parley::stage::send, parley::stage::receive) == "      send|rece");
    CHECK(std::format("{}", parley::endpoint("127.0.0.1", 7000)) == "127.0.0.1:7000");
    CHECK(std::format("{:*^7}", result<int>(7)) == "***7***");
    CHECK(std::format("{}", result<>()) == "done");
    CHECK(std::format("{}", outcome<int>()) == "stopped");
    CHECK(std::format("{}", parley::cancelled()) == "cancelled");
    CHECK(std::format("{}", parley::await_sites()).empty());
}
#endif
