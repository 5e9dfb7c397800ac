// Mistakes of those who write awaitables, which no sanitizer sees: a build with assertions ends the program
// and says which task it was.

#include <parley/parley.hpp>

#include <coroutine>
#include <string>

#include "core/child.h"
#include "coro_test.hpp"

using parley::task;
using namespace std::chrono_literals;

namespace {

#ifdef NDEBUG
constexpr bool unchecked = true;
#else
constexpr bool unchecked = false;
#endif

// Completes its wait, and once more.
class completes_twice : private CommNode, private parley::detail::operation {
public:
    completes_twice() {
        run = [](CommNode *node) {
            auto *self = static_cast<completes_twice *>(node);
            parley::detail::context *waiting = self->task_;
            waiting->complete();
            waiting->complete();
        };
    }
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, parley::detail::context &waiting) noexcept {
        task_ = &waiting;
        waiting.begin(*this);
        return waiting.loop().core().post(this) == 0;
    }
    void await_resume() const noexcept {}

private:
    void cancel() noexcept override {}
    const char *name() const noexcept override { return "completes_twice"; }

    parley::detail::context *task_ = nullptr;
};

task<> the_guilty_one() {
    completes_twice wait;
    co_await wait;
    co_await parley::sleep_for(1h);
}

} // namespace

TEST_CASE("a task that is resumed twice ends a debug build, which says which task and where it stood" *
          doctest::skip(unchecked)) {
    process::Child child([](process::Child &self) {
        self.say_errors();
        parley::run(the_guilty_one());
    });
    std::string said = child.line();
    CAPTURE(said);
    CHECK(said.find("resumed twice") != std::string::npos);
    CHECK(said.find("misuse_test.cpp") != std::string::npos);
    CHECK(said.find("the_guilty_one") != std::string::npos);
    CHECK(child.status() == -SIGABRT);
}

TEST_CASE("a runtime that is destroyed on one of its own loops ends the program and says so") {
    process::Child child([](process::Child &self) {
        self.say_errors();
        auto *rt = new parley::runtime;
        rt->start(
            [](parley::runtime *mine) -> task<> {
                delete mine;
                co_return;
            }(rt),
            [](parley::outcome<>) {});
        for (;;)
            pause();
    });
    std::string said = child.line();
    CAPTURE(said);
    CHECK(said.find("destroyed on one of its own loops") != std::string::npos);
    CHECK(child.status() == -SIGABRT);
}
