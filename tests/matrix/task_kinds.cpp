// Tasks that wait for tasks. At the bottom, several wait for one event.

#include "driver.hpp"

#include <stop_token>
#include <utility>

namespace matrix {

namespace {

using parley::event;
using parley::scope;

constinit parley::task_local<int> some_local;

task<int> opened(event &door) {
    co_await door.wait();
    co_return 1;
}
task<> passed(event &door) {
    co_await door.wait();
}
task<int> below(event &door, int depth) {
    if (depth == 0)
        co_return co_await opened(door);
    const int value = co_await below(door, depth - 1);
    co_return value + 1;
}

template <auto Wait, fate Ending = fate::cancelled>
class gated final : public subject {
public:
    using subject::subject;
    void arrange(moment) override { door_.reset(); }
    task<> wait() override { return Wait(door_); }
    task<> until_waiting() override { return yields(8); }
    void complete() override { door_.set(); }
    std::optional<fate> cancelled_during() const override { return Ending; }
    bool must_complete() const override { return Ending == fate::finished; }

private:
    event door_;
};

task<> child_task(event &door) {
    const int depth = co_await below(door, 40);
    static_cast<void>(depth);
}
task<> all_of_few(event &door) {
    auto [a, b, c, d] = co_await parley::when_all(opened(door), parley::yield(), door.wait(), below(door, 3));
    static_cast<void>(a + d);
    static_cast<void>(b);
    static_cast<void>(c);
}
task<> all_of_many(event &door) {
    std::vector<task<int>> children;
    for (int i = 0; i < 9; ++i)
        children.push_back(below(door, i));
    [[maybe_unused]] auto values = co_await parley::when_all(std::move(children));
}
task<> any_of_few(event &door) {
    [[maybe_unused]] auto first =
        co_await parley::when_any(opened(door), parley::sleep_for(1h), below(door, 4));
}
task<> any_of_many(event &door) {
    std::vector<task<int>> children;
    for (int i = 0; i < 9; ++i)
        children.push_back(below(door, i));
    [[maybe_unused]] auto first = co_await parley::when_any(std::move(children));
}
task<> in_a_scope(event &door) {
    co_await parley::with_scope([&](scope &s) -> task<> {
        for (int i = 0; i < 5; ++i)
            s.spawn(passed(door));
        co_await parley::with_scope([&](scope &inner) -> task<> {
            inner.spawn(passed(door));
            co_return;
        });
    });
}
task<> for_each(event &door) {
    const int elements[] = {1, 2, 3, 4, 5, 6};
    co_await parley::for_each_concurrently(elements, 3, [&](int) -> task<> { co_await door.wait(); });
}
task<> in_time(event &door) {
    [[maybe_unused]] auto value = co_await parley::with_timeout(1h, parley::with_timeout(2h, opened(door)));
}
task<> before_a_deadline(event &door) {
    [[maybe_unused]] auto value =
        co_await parley::with_deadline(std::chrono::system_clock::now() + 1h, opened(door));
}
task<> shielded(event &door) {
    const int value = co_await parley::shield(opened(door));
    static_cast<void>(value);
}
task<> cleaned(event &door) {
    int cleanups = 0;
    auto clean = [&]() -> task<> {
        co_await parley::yield();
        ++cleanups;
    };
    const int value = co_await parley::finally(opened(door), clean);
    static_cast<void>(value);
}
task<> told(event &door) {
    [[maybe_unused]] auto value = co_await parley::stop_as_error(opened(door));
    co_await parley::yield(); // what was told is still so
}
task<> with_token(event &door) {
    std::stop_source never;
    [[maybe_unused]] auto value = co_await parley::with_stop_token(never.get_token(), opened(door));
}
task<> with_a_value(event &door) {
    const int value = co_await parley::with_value(some_local, 3, opened(door));
    static_cast<void>(value);
}
task<> elsewhere(event &door) {
    parley::runtime &rt = parley::this_loop().runtime();
    co_await parley::resume_on(rt.loop(1));
    co_await door.wait();
    co_await parley::resume_on(rt.loop(0));
}
task<> back_and_forth(event &door) {
    parley::runtime &rt = parley::this_loop().runtime();
    while (!door.try_wait()) {
        co_await parley::resume_on(rt.loop(1));
        co_await parley::yield();
        co_await parley::resume_on(rt.loop(0));
    }
}
// Two stacks deep.
task<> in_fibers(event &door) {
    co_await parley::in_fiber([&door] {
        parley::await(parley::in_fiber([&door] {
            const int value = parley::await(below(door, 2));
            static_cast<void>(value);
        }));
    });
}

} // namespace

std::vector<kind> task_kinds() {
    return {
        {"child task", make<gated<child_task>>},
        {"when_all of a few", make<gated<all_of_few>>},
        {"when_all of a range", make<gated<all_of_many>>},
        {"when_any of a few", make<gated<any_of_few>>},
        {"when_any of a range", make<gated<any_of_many>>},
        {"with_scope", make<gated<in_a_scope>>},
        {"for_each_concurrently", make<gated<for_each>>},
        {"with_timeout", make<gated<in_time>>},
        {"with_deadline", make<gated<before_a_deadline>>},
        {"shield", make<gated<shielded, fate::finished>>},
        {"finally", make<gated<cleaned>>},
        {"stop_as_error", make<gated<told>>},
        {"with_stop_token", make<gated<with_token>>},
        {"with_value", make<gated<with_a_value>>},
        {"fibers", make<gated<in_fibers>>},
        {"resume_on, and a wait there", make<gated<elsewhere>>},
        {"resume_on, back and forth", make<gated<back_and_forth>>},
    };
}

} // namespace matrix
