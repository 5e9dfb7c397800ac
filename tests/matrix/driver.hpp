// The matrix: each kind of await is cancelled before, during and at its completion, from its own loop and
// from another thread, again and again; then nothing may be left, lost or stuck.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ground.hpp"

namespace matrix {

enum class moment : std::uint8_t { before, during, completion };
enum class place : std::uint8_t { same_loop, other_thread };
enum class fate : std::uint8_t { not_begun, cancelled, finished };

// One kind of await, used again and again on the first loop.
class subject {
public:
    explicit subject(ground &where) noexcept : g(where) {}
    subject(const subject &) = delete;
    virtual ~subject() = default;

    virtual task<> begin() { co_return; }
    virtual task<> end() { co_return; }

    // Before each time.
    virtual void arrange(moment) {}
    // The await, in the task that is cancelled.
    virtual task<> wait() = 0;
    // Until that task stands in it; not when it is cancelled before.
    virtual task<> until_waiting() { return yields(3); }
    // Makes what is awaited happen. On any thread; at most once each time.
    virtual void complete() {}
    // After each time: nothing was lost, and all is as it was.
    virtual task<> check(fate) { co_return; }

    // How a wait ends that is cancelled while nothing completes it; nothing: that is a matter of time.
    virtual std::optional<fate> cancelled_during() const { return fate::cancelled; }
    // The cancel alone does not end it: complete() follows.
    virtual bool must_complete() const { return false; }
    // Not zero: it completes by itself, about then.
    virtual std::chrono::nanoseconds due() const { return 0ns; }

protected:
    ground &g;
};

struct kind {
    const char *name;
    std::unique_ptr<subject> (*make)(ground &);
    unsigned cost = 1; // the matrix does it so many times less often
};

template <class S>
std::unique_ptr<subject> make(ground &g) {
    return std::make_unique<S>(g);
}

std::vector<kind> primitive_kinds();
std::vector<kind> channel_kinds();
std::vector<kind> callback_kinds();
std::vector<kind> task_kinds();
std::vector<kind> network_kinds();
std::vector<kind> halfway_kinds();

// Runs the cells of one kind, `rounds` times each, and looks for what is left. How often a wait was
// finished, and cancelled, at its completion.
struct tally {
    std::size_t finished = 0;
    std::size_t cancelled = 0;
};
tally run_kind(ground &g, const kind &what, unsigned rounds, std::uint64_t seed);

} // namespace matrix
