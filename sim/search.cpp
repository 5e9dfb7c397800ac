#include <parley/sim/search.hpp>

#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ostream>
#include <stdexcept>

#include "access.h"
#include "child.h"
#include "kernel.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PARLEY_SIM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PARLEY_SIM_SANITIZED 1
#endif
#endif
#ifdef PARLEY_SIM_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

namespace parley::sim {

namespace {

using detail::drawn;
using detail::outcome;

constexpr std::size_t most_tries = 400;
constexpr std::chrono::seconds most_time{15}; // for the search of a smaller run

detail::kernel *dying = nullptr;

void die(const char *why) {
    if (detail::kernel *it = std::exchange(dying, nullptr))
        detail::tell_failure(*it, why);
}

void on_signal(int number) {
    die((std::string("signal ") + sigabbrev_np(number)).c_str());
}

// What a program does that crashes: the world tells its trace all the same.
void tell_of_crashes(detail::kernel &world) {
    dying = &world;
    for (int number : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS})
        ::signal(number, on_signal);
#ifdef PARLEY_SIM_SANITIZED
    __sanitizer_set_death_callback([] { die("a sanitizer ended the process"); });
#endif
}

outcome run_once(std::uint64_t seed, const std::function<void(world &)> &program, const drawn *told,
                 bool traced) {
    return detail::in_child([&] {
        world it(seed);
        detail::kernel &kernel = world_access::kernel_of(it);
        kernel.set_failure_sink(detail::tell_failure);
        tell_of_crashes(kernel);
        if (told != nullptr)
            kernel.chosen().retell(told);
        if (traced)
            kernel.keep_trace();
        try {
            program(it);
        } catch (const std::exception &error) {
            detail::tell_failure(kernel, std::string("the program threw: ") + error.what());
        }
        detail::tell_success(kernel.fingerprint(), 0);
    });
}

// Failures are alike if they say the same, whatever the numbers in it.
std::string kind_of(const std::string &what) {
    std::string kind = what.substr(0, what.find('\n'));
    std::erase_if(kind, [](char c) { return c >= '0' && c <= '9'; });
    return kind;
}

std::uint64_t count(const drawn &taken) {
    std::uint64_t sum = 0;
    for (const auto &numbers : taken)
        sum += static_cast<std::uint64_t>(
            std::count_if(numbers.begin(), numbers.end(), [](auto v) { return v != 0; }));
    return sum;
}

// Looks for a smaller run: delta debugging (Zeller and Hildebrandt, TSE 2002) over the choices that
// are not 0.
class shrinking {
public:
    shrinking(std::uint64_t seed, const std::function<void(world &)> &program, outcome first)
        : seed_(seed), program_(program), best_(std::move(first)), kind_(kind_of(best_.what)) {}

    outcome smallest() {
        for (std::size_t i = 0; i < detail::streams; i++) {
            drawn without = best_.taken;
            std::fill(without[i].begin(), without[i].end(), 0u);
            take(without);
        }
        std::uint64_t before;
        do {
            before = count(best_.taken);
            for (std::size_t i = 0; i < detail::streams; i++)
                thin_out(i);
        } while (count(best_.taken) < before && !tired());
        lower(static_cast<std::size_t>(detail::stream::program));
        const drawn told = best_.taken;
        outcome last = run_once(seed_, program_, &told, true);
        tries_++;
        return last.failed ? last : best_;
    }

    std::size_t tries() const noexcept { return tries_; }

private:
    bool tired() const {
        return tries_ >= most_tries || std::chrono::steady_clock::now() - began_ > most_time;
    }

    // True: this fails alike and is smaller.
    bool take(const drawn &told) {
        if (tired() || count(told) >= count(best_.taken))
            return false;
        tries_++;
        outcome it = run_once(seed_, program_, &told, false);
        if (!it.failed || kind_of(it.what) != kind_ || count(it.taken) >= count(best_.taken))
            return false;
        best_ = std::move(it);
        return true;
    }

    static std::vector<std::size_t> places(const std::vector<std::uint32_t> &numbers) {
        std::vector<std::size_t> found;
        for (std::size_t i = 0; i < numbers.size(); i++)
            if (numbers[i] != 0)
                found.push_back(i);
        return found;
    }

    void thin_out(std::size_t stream) {
        std::vector<std::size_t> at = places(best_.taken[stream]);
        for (std::size_t size = (at.size() + 1) / 2; size >= 1; size /= 2) {
            for (std::size_t from = 0; from < at.size() && !tired();) {
                drawn told = best_.taken;
                for (std::size_t i = from; i < std::min(from + size, at.size()); i++)
                    if (at[i] < told[stream].size())
                        told[stream][at[i]] = 0;
                if (take(told))
                    at = places(best_.taken[stream]);
                else
                    from += size;
            }
        }
    }

    // Smaller numbers where 0 will not do.
    void lower(std::size_t stream) {
        for (std::size_t i = 0; i < best_.taken[stream].size() && !tired(); i++) {
            for (std::uint32_t value = best_.taken[stream][i]; value > 1 && !tired();) {
                drawn told = best_.taken;
                value /= 2;
                told[stream][i] = value;
                tries_++;
                outcome it = run_once(seed_, program_, &told, false);
                if (!it.failed || kind_of(it.what) != kind_)
                    break;
                best_ = std::move(it);
                if (i >= best_.taken[stream].size())
                    break;
            }
        }
    }

    std::uint64_t seed_;
    const std::function<void(world &)> &program_;
    outcome best_;
    std::string kind_;
    std::size_t tries_ = 0;
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

std::optional<std::uint64_t> from_environment(const char *name) {
    const char *text = std::getenv(name);
    if (text == nullptr || *text == '\0')
        return std::nullopt;
    char *end = nullptr;
    const std::uint64_t value = std::strtoull(text, &end, 10);
    if (*end != '\0')
        throw std::invalid_argument(std::string("parley::sim: ") + name + " is no number: " + text);
    return value;
}

failure tell(std::string_view name, std::uint64_t seed, outcome first,
             const std::function<void(world &)> &program) {
    failure it;
    it.name = name;
    it.seed = seed;
    it.choices_before = count(first.taken);
    shrinking search(seed, program, std::move(first));
    outcome last = search.smallest();
    it.what = last.what;
    it.trace = std::move(last.trace);
    it.choices = count(last.taken);
    it.tries = search.tries();
    return it;
}

} // namespace

std::optional<failure> search(std::string_view name, std::size_t seeds,
                              const std::function<void(world &)> &program) {
    std::uint64_t first = 1;
    if (auto one = from_environment("PARLEY_SEED")) {
        first = *one;
        seeds = 1;
    } else if (auto number = from_environment("PARLEY_SEEDS")) {
        seeds = *number;
        // Short enough to be typed, and enough for a thousand years of nights.
        if (getrandom(&first, sizeof first, 0) != sizeof first)
            throw std::runtime_error("parley::sim: getrandom failed");
        first %= 1'000'000'000'000;
    }
    for (std::uint64_t seed = first; seed < first + seeds; seed++) {
        outcome it = run_once(seed, program, nullptr, false);
        if (it.failed)
            return tell(name, seed, std::move(it), program);
    }
    return std::nullopt;
}

std::ostream &operator<<(std::ostream &out, const failure &it) {
    out << it.name << ": seed " << it.seed << " fails: " << it.what << "\n";
    if (it.seed != 0)
        out << "Again: ./parley test --seed " << it.seed << " -k '" << it.name << "'\n";
    out << "The smallest run found that fails so (" << it.choices << " choices of " << it.choices_before
        << " left, after " << it.tries << " tries):\n";
    // The beginning, and the end where it fails.
    constexpr std::size_t head = 150;
    constexpr std::size_t tail = 250;
    for (std::size_t i = 0; i < it.trace.size(); i++) {
        if (i == head && it.trace.size() > head + tail) {
            i = it.trace.size() - tail;
            out << "  (" << i - head << " lines left out)\n";
        }
        out << it.trace[i] << "\n";
    }
    return out;
}

} // namespace parley::sim
