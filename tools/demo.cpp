// `parley demo`: the whole house at work, over real sockets, in a few seconds, with a proof at the end.

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <dirent.h>
#include <sys/resource.h>

#include <parley/detail/frame_pool.hpp>
#include <parley/parley.hpp>

#include "command.h"
#include "demo_report.h"
#include "echo_service.h"
#include "terminal.h"
#include "traffic.h"

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

constexpr const char *usage = "usage: parley demo [--json] [--seconds N]\n"
                              "  --json       one line of figures, and nothing else on standard output\n"
                              "  --seconds N  about how long it may take, 1 to 3600 (12)\n";
constexpr std::size_t sleepers = 100'000;
constexpr nanoseconds patience = 15s; // without any progress at all

struct options {
    bool json = false;
    bool help = false;
    nanoseconds time = 12s;
};

std::optional<options> parse(arguments given) {
    options found;
    for (std::size_t i = 0; i < given.size(); i++) {
        const std::string_view word = given[i];
        if (word == "--json") {
            found.json = true;
        } else if (word == "--help" || word == "-h") {
            found.help = true;
        } else if (word == "--seconds") {
            const std::string_view text = i + 1 < given.size() ? given[++i] : "";
            int seconds = 0;
            const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
            if (error != std::errc() || rest != text.data() + text.size() || seconds < 1 || seconds > 3600) {
                std::fputs("parley demo: --seconds wants a number from 1 to 3600\n", stderr);
                return {};
            }
            found.time = std::chrono::seconds(seconds);
        } else {
            std::fprintf(stderr, "parley demo: what is \"%.*s\"?\n%s", static_cast<int>(word.size()),
                         word.data(), usage);
            return {};
        }
    }
    return found;
}

// Both ends of each connection are ours. False, with a line that says so, if there cannot be as many.
bool enough_descriptors(std::size_t loops) {
    const rlim_t wanted = 2 * traffic::connections + 8 * loops + 64;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return true;
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    if (limit.rlim_cur == wanted && setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return true;
    std::fprintf(stderr, "parley demo: needs %llu descriptors and may have %llu (ulimit -n)\n",
                 static_cast<unsigned long long>(wanted), static_cast<unsigned long long>(limit.rlim_max));
    return false;
}

std::ptrdiff_t open_descriptors() {
    DIR *folder = opendir("/proc/self/fd");
    std::ptrdiff_t count = 0;
    while (folder != nullptr && readdir(folder) != nullptr)
        count++;
    if (folder != nullptr)
        closedir(folder);
    return count;
}

// Ends everything on SIGINT and SIGTERM.
parley::task<> stop_on_signal(std::atomic<int> &caught) {
    const int number = co_await parley::wait_signal(SIGINT, SIGTERM);
    caught = number;
    parley::this_loop().runtime().stop();
}

parley::task<> serve_and_drive(traffic &all, std::vector<parley::endpoint> servers) {
    parley::server<messages> door(parley::endpoint("127.0.0.1", 0), echo);
    auto local = co_await door.listen();
    servers.push_back(local.value());
    co_await all.drive(std::move(servers));
    auto closed = co_await door.close();
    closed.value();
}

class demonstration {
public:
    demonstration(terminal &screen, demo_report &report) : screen_(screen), report_(report) {
        report_.loops = runtime_.loops();
        runtime_.start(runtime_.loop(0), stop_on_signal(signal_), [](parley::outcome<>) {});
    }

    std::size_t loops() const { return runtime_.loops(); }

    void exchange(const char *key, const char *title, nanoseconds time, bool coroutines, bool callbacks) {
        if (interrupted() != 0)
            return;
        demo_part part;
        part.key = key;
        part.title = title;
        tallies results(runtime_.loops());
        traffic all(results, time, report_.parts.size() * traffic::coroutines);
        echo_service service(runtime_.communicator());
        std::vector<parley::endpoint> servers;
        if (callbacks)
            servers.push_back(service.open());

        const std::uint64_t accepted = accepts();
        perform(part, results, coroutines ? serve_and_drive(all, servers) : all.drive(servers),
                [&](const totals &now, nanoseconds since) {
                    screen_.progress(static_cast<double>(since.count()) / static_cast<double>(time.count()),
                                     grouped(now.ended) + " answers");
                });
        service.close();
        part.connections = accepts() - accepted;
        finish(std::move(part), results);
    }

    void sleep(nanoseconds longest) {
        if (interrupted() != 0)
            return;
        demo_part part;
        part.key = "sleep";
        part.title = grouped(sleepers) + " sleeping coroutines";
        part.is_traffic = false;
        tallies results(runtime_.loops());
        perform(part, results, sleep_all(results, sleepers, longest, 1), [&](const totals &now, nanoseconds) {
            part.at_once = std::max(part.at_once, now.begun - now.ended);
            screen_.progress(static_cast<double>(now.ended) / static_cast<double>(sleepers),
                             grouped(now.begun - now.ended) + " asleep");
        });
        finish(std::move(part), results);
    }

    // The signal that ended it, or 0.
    int interrupted() const { return signal_; }

private:
    using show_function = std::function<void(const totals &now, nanoseconds since)>;

    // Runs the part to its end, and shows how far it is meanwhile.
    void perform(demo_part &part, const tallies &results, parley::task<> work, const show_function &show) {
        screen_.heading(part.title);
        std::mutex mutex;
        std::condition_variable changed;
        std::optional<parley::outcome<>> end;
        const steady_clock::time_point start = steady_clock::now();
        runtime_.start(runtime_.loop(0), std::move(work), [&](parley::outcome<> how) {
            std::lock_guard lock(mutex);
            end.emplace(std::move(how));
            changed.notify_one();
        });

        totals before;
        steady_clock::time_point moved = start;
        std::unique_lock lock(mutex);
        while (!changed.wait_for(lock, 50ms, [&] { return end.has_value(); })) {
            lock.unlock();
            const totals now = sum(results);
            const steady_clock::time_point time = steady_clock::now();
            if (now.begun != before.begun || now.ended != before.ended)
                moved = time;
            else if (time - moved > patience)
                give_up(now);
            before = now;
            show(now, time - start);
            lock.lock();
        }
        lock.unlock();
        screen_.end_progress();
        part.seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
        note_failure(end->exception());
    }

    void finish(demo_part part, const tallies &results) {
        part.counted = sum(results);
        for (const tally &each : results) {
            part.times.add(each.times);
            part.wrong += each.wrong;
            for (const std::string &complaint : each.complaints)
                report_.problems.push_back(part.key + ": " + complaint);
        }
        if (part.wrong != 0)
            report_.problems.push_back(part.key + ": " + grouped(part.wrong) +
                                       " answers were not what was sent");
        if (!part.is_traffic && part.counted.ended != sleepers && interrupted() == 0)
            report_.problems.push_back(part.key + ": only " + grouped(part.counted.ended) + " of " +
                                       grouped(sleepers) + " coroutines have finished");
        if (interrupted() == 0)
            print_part(screen_, part);
        report_.parts.push_back(std::move(part));
    }

    void note_failure(const std::exception_ptr &failure) {
        if (!failure)
            return;
        try {
            std::rethrow_exception(failure);
        } catch (const std::exception &e) {
            report_.problems.emplace_back(e.what());
        } catch (...) {
            report_.problems.emplace_back("an exception of an unknown type");
        }
    }

    // Something never ends, so neither would any clean-up: says so and leaves.
    [[noreturn]] void give_up(const totals &now) {
        screen_.end_progress();
        std::fflush(stdout);
        std::fprintf(stderr, "parley demo: stuck: %llu begun, %llu ended, and then nothing for %lld s\n",
                     static_cast<unsigned long long>(now.begun), static_cast<unsigned long long>(now.ended),
                     static_cast<long long>(patience / 1s));
        std::_Exit(failed);
    }

    std::uint64_t accepts() const {
        std::uint64_t all = 0;
        for (std::size_t i = 0; i < runtime_.loops(); i++)
            all += runtime_.loop(i).core().counters().accepts;
        return all;
    }

    terminal &screen_;
    demo_report &report_;
    std::atomic<int> signal_{0};
    parley::runtime runtime_; // the last, so that it ends first
};

// The signal that ended it, or 0.
int show_all(nanoseconds time, terminal &screen, demo_report &report) {
    const std::ptrdiff_t frames = parley::detail::live_frames();
    const std::ptrdiff_t descriptors = open_descriptors();
    int interrupted;
    {
        demonstration all(screen, report);
        screen.line("parley demo: " + std::to_string(all.loops()) + " loops, " +
                    std::to_string(traffic::connections) + " connections, " + grouped(traffic::coroutines) +
                    " coroutines, messages from 1 byte to 1 MiB");
        const nanoseconds each = time * 27 / 100;
        all.exchange("coroutines", "coroutines served by coroutines", each, true, false);
        all.exchange("callbacks", "coroutines served by callbacks", each, false, true);
        all.exchange("mixed", "coroutines served by both", each, true, true);
        all.sleep(std::clamp<nanoseconds>(time / 12, 200ms, 5s));
        interrupted = all.interrupted();
    }
    report.leaked_frames = parley::detail::live_frames() - frames;
    report.leaked_descriptors = open_descriptors() - descriptors;
    report.leaked_sessions = echo_service::unfinished_sessions();
    return interrupted;
}

// What is wrong, in words, on standard error.
void print_problems(const demo_report &report) {
    for (const std::string &problem : report.problems)
        std::fprintf(stderr, "parley demo: %s\n", problem.c_str());
    if (report.leaked() != 0)
        std::fprintf(stderr,
                     "parley demo: left behind: %td coroutine frames, %td descriptors, %zu sessions\n",
                     report.leaked_frames, report.leaked_descriptors, report.leaked_sessions);
}

} // namespace

int demo(arguments given) {
    const std::optional<options> wanted = parse(given);
    if (!wanted)
        return not_understood;
    if (wanted->help) {
        std::fputs(usage, stdout);
        return done;
    }
    if (!enough_descriptors(std::max(1u, std::thread::hardware_concurrency())))
        return missing;

    terminal screen(wanted->json);
    demo_report report;
    const int interrupted = show_all(wanted->time, screen, report);
    if (interrupted != 0) {
        std::fflush(stdout);
        print_problems(report);
        std::fprintf(stderr, "parley demo: interrupted; %s\n",
                     report.leaked() == 0 ? "nothing is left behind" : "something is left behind");
        return 128 + interrupted;
    }
    std::fflush(stdout);
    print_problems(report);
    if (wanted->json)
        std::puts(to_json(report).c_str());
    else if (report.is_proof())
        screen.good(proof_line(report));
    else
        screen.line(proof_line(report));
    return report.is_proof() ? done : failed;
}
