#include "traffic.h"

#include <cmath>
#include <utility>

#include "pattern.h"

using std::chrono::steady_clock;

namespace {

// From 1 byte to the largest: many small ones, some of more than 16 KiB, a few of more than 128 KiB. Each
// order of magnitude is as likely as the next within its band.
std::size_t mixed_size(random_numbers &numbers) {
    struct band {
        double share;    // of the messages, with the bands before it
        double from, to; // powers of two
    };
    constexpr band bands[] = {{0.90, 0, 14}, {0.99, 14, 17}, {1.00, 17, 20}};
    static_assert(traffic::largest == std::size_t{1} << 20);
    const double dice = numbers.next_part();
    const band *chosen = bands;
    while (dice >= chosen->share)
        chosen++;
    return static_cast<std::size_t>(
        std::exp2(chosen->from + (chosen->to - chosen->from) * numbers.next_part()));
}

// Runs make(loop, index) on every loop of the runtime, and ends when all of them have.
template <class F>
parley::task<> on_every_loop(F &make) {
    parley::runtime &rt = parley::this_loop().runtime();
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        for (std::size_t i = 0; i < rt.loops(); i++)
            all.spawn(make(rt.loop(i)));
        co_return;
    });
}

parley::task<> nap(tally &mine, std::chrono::nanoseconds length) {
    tally::count(mine.begun);
    const steady_clock::time_point due = steady_clock::now() + length;
    co_await parley::sleep_for(length);
    mine.times.add(steady_clock::now() - due);
    tally::count(mine.ended);
}

parley::task<> sleep_on(parley::loop &home, tally &mine, std::size_t count, std::chrono::nanoseconds longest,
                        std::uint64_t seed) {
    co_await parley::resume_on(home);
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        random_numbers numbers(seed + home.index());
        for (std::size_t i = 0; i < count; i++) {
            const double part = 0.5 + 0.5 * numbers.next_part();
            all.spawn(nap(mine, std::chrono::duration_cast<std::chrono::nanoseconds>(longest * part)));
        }
        co_return;
    });
}

} // namespace

parley::task<> echo(parley::connection<messages> peer) {
    while (auto message = co_await peer.recv())
        if (auto sent = co_await peer.send(*message); !sent)
            co_return;
}

totals sum(const tallies &of) noexcept {
    totals all;
    for (const tally &each : of) {
        // In this order: what has ended has begun.
        all.ended += each.ended.load(std::memory_order_relaxed);
        all.bytes += each.bytes.load(std::memory_order_relaxed);
        all.begun += each.begun.load(std::memory_order_relaxed);
    }
    return all;
}

parley::task<> traffic::drive(std::vector<parley::endpoint> servers) {
    parley::client_options options;
    options.max_connections(connections / servers.size());
    clients asked;
    for (const parley::endpoint &where : servers)
        asked.emplace_back(where, options);
    end_ = steady_clock::now() + time_;
    auto make = [&](parley::loop &home) { return drive_on(home, asked); };
    co_await on_every_loop(make);
}

parley::task<> traffic::drive_on(parley::loop &home, clients &servers) {
    co_await parley::resume_on(home);
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        for (std::size_t n = home.index(); n < coroutines; n += home.runtime().loops())
            all.spawn(converse(servers, n, tallies_[home.index()]));
        co_return;
    });
}

parley::task<> traffic::converse(clients &servers, std::size_t number, tally &mine) const {
    random_numbers numbers(seed_ + number);
    for (std::size_t turn = 0; turn == 0 || steady_clock::now() < end_; turn++) {
        std::size_t size = mixed_size(numbers);
        if (turn == 0 && number < 2)
            size = number == 0 ? 1 : largest; // both ends of the range, whatever the dice say
        const std::uint64_t pattern = numbers.next();
        parley::length_prefixed question;
        fill_pattern(question.resize_for_overwrite(size), size, pattern);

        const steady_clock::time_point asked = steady_clock::now();
        tally::count(mine.begun);
        auto answer = co_await servers[(number + turn) % servers.size()].request(std::move(question));
        if (!answer) {
            mine.complain(to_string(answer.error()));
            co_return;
        }
        mine.times.add(steady_clock::now() - asked);
        if (answer->size() != size || !is_pattern(answer->body(), pattern)) {
            mine.wrong++;
            continue;
        }
        tally::count(mine.bytes, size);
        tally::count(mine.ended);
    }
}

parley::task<> sleep_all(tallies &results, std::size_t count, std::chrono::nanoseconds longest,
                         std::uint64_t seed) {
    const std::size_t loops = results.size();
    auto make = [&](parley::loop &home) {
        const std::size_t i = home.index();
        return sleep_on(home, results[i], count * (i + 1) / loops - count * i / loops, longest, seed);
    };
    co_await on_every_loop(make);
}
