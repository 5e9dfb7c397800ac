#include "driver.hpp"

#include <stop_token>
#include <string>
#include <utility>

#include <parley/detail/frame_pool.hpp>

namespace matrix {

namespace {

using parley::scope;

task<> victim(subject &it, fate &how) {
    how = fate::cancelled;
    co_await it.wait();
    how = fate::finished;
}

// About the time at which it completes by itself, sometimes before, sometimes after.
std::chrono::nanoseconds near(std::chrono::nanoseconds due, dice &random) {
    return due == 0ns ? 0ns : due * (random(8) + 1) / 5;
}

task<> cancel_on_its_loop(ground &g, subject &it, moment when, fate &how, dice &random) {
    const unsigned variant = random(4), pause = random(6);
    co_await parley::with_scope([&](scope &s) -> task<> {
        if (when == moment::before) {
            if (variant % 2 == 0)
                s.cancel();
            s.spawn(victim(it, how));
            s.cancel();
            if (it.must_complete())
                g.second.give([&it] { it.complete(); });
            co_return;
        }
        s.spawn(victim(it, how));
        co_await it.until_waiting();
        if (when == moment::during) {
            s.cancel();
            if (it.must_complete())
                g.second.give([&it] { it.complete(); });
            co_return;
        }
        if (it.due() != 0ns) {
            co_await parley::sleep_for(near(it.due(), random));
            s.cancel();
            co_return;
        }
        switch (variant) {
        case 0:
            it.complete();
            s.cancel();
            break;
        case 1:
            s.cancel();
            it.complete();
            break;
        case 2:
            it.complete();
            co_await yields(pause);
            s.cancel();
            break;
        default:
            g.second.give([&it] { it.complete(); });
            co_await yields(pause);
            s.cancel();
            break;
        }
    });
    co_await g.quiet();
}

task<> cancel_from_elsewhere(ground &g, subject &it, moment when, fate &how, dice &random) {
    std::stop_source source;
    auto stop = [&source] { source.request_stop(); };
    if (when == moment::before) {
        g.first.give(stop);
        co_await g.quiet();
    }
    // Some completions take a way: through the kernel, through the Executor.
    const unsigned early = random(3) == 0 ? random(200'000) : 0;
    const unsigned late = random(3) == 0 ? random(20'000) : 0;
    co_await parley::with_scope([&](scope &s) -> task<> {
        s.spawn([&]() -> task<> {
            auto done = co_await parley::with_stop_token(source.get_token(), victim(it, how));
        });
        if (when == moment::before)
            co_return;
        co_await it.until_waiting();
        if (when == moment::during) {
            g.first.give(stop);
            if (it.must_complete()) {
                co_await g.quiet();
                it.complete();
            }
        } else if (it.due() != 0ns) {
            g.first.give([&stop, time = near(it.due(), random)] {
                nap(time);
                stop();
            });
        } else {
            g.race(
                [&stop, early] {
                    linger(early);
                    stop();
                },
                [&it, late] {
                    linger(late);
                    it.complete();
                });
        }
    });
    co_await g.quiet();
}

task<> run_cells(ground &g, const kind &what, unsigned rounds, dice &random, tally &counted) {
    std::unique_ptr<subject> it = what.make(g);
    co_await it->begin();
    for (moment when : {moment::before, moment::during, moment::completion}) {
        for (place from : {place::same_loop, place::other_thread}) {
            g.now_in(std::string(what.name) +
                     (when == moment::before   ? ", before"
                      : when == moment::during ? ", during"
                                               : ", at completion") +
                     (from == place::same_loop ? ", on its loop" : ", from another thread"));
            for (unsigned i = 0; i < rounds && g.fault().empty(); ++i) {
                it->arrange(when);
                fate how = fate::not_begun;
                if (from == place::same_loop)
                    co_await cancel_on_its_loop(g, *it, when, how, random);
                else
                    co_await cancel_from_elsewhere(g, *it, when, how, random);
                if (when == moment::before && it->cancelled_during() == fate::cancelled)
                    g.expect(how != fate::finished, "cancelled before it began, it went on");
                if (when == moment::during && it->cancelled_during())
                    g.expect(how == *it->cancelled_during(), "cancelled, it did not end so");
                if (when == moment::completion)
                    ++(how == fate::finished ? counted.finished : counted.cancelled);
                co_await it->check(how);
            }
        }
    }
    g.now_in(std::string(what.name) + ", the end");
    co_await it->end();
}

task<> run_and_look(ground &g, const kind &what, unsigned rounds, dice &random, tally &counted) {
    tally ignored;
    co_await run_cells(g, what, 1, random, ignored); // what is kept for later uses is there now
    const std::ptrdiff_t frames = parley::detail::live_frames();
    const std::size_t descriptors = ground::descriptors();
    co_await run_cells(g, what, rounds, random, counted);
    // until() is a task itself.
    co_await g.until([&] { return parley::detail::live_frames() <= frames + 1; }, "frames are left");
    co_await g.until([&] { return ground::descriptors() <= descriptors; }, "descriptors are left");
}

} // namespace

tally run_kind(ground &g, const kind &what, unsigned rounds, std::uint64_t seed) {
    tally counted;
    dice random(seed);
    g.now_in(what.name);
    g.run(run_and_look(g, what, rounds / what.cost + 1, random, counted));
    return counted;
}

} // namespace matrix
