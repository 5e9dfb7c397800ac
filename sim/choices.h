// Where a run's decisions come from: one stream of numbers for each kind, so that a decision left out of one
// does not move the others. Every number that was drawn is kept. 0 is always the plain choice (go on, no
// fault, the smallest), so a run can be retold simpler by making numbers 0.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace parley::sim::detail {

enum class stream : unsigned char { schedule, fault, network, program };
constexpr std::size_t streams = 4;

using drawn = std::array<std::vector<std::uint32_t>, streams>;

// xoshiro256** by Blackman and Vigna, seeded by splitmix64.
class generator {
public:
    explicit generator(std::uint64_t seed) noexcept;
    std::uint64_t next() noexcept;

private:
    std::uint64_t s_[4];
};

// Takes the place of the seed for the schedule: an explorer's next branch.
class branching {
public:
    virtual ~branching() = default;
    // 0 .. n-1. `free`: the running thread cannot go on; otherwise anything but 0 takes it off.
    virtual std::uint32_t branch(std::uint32_t n, bool free) = 0;
};

class choices {
public:
    explicit choices(std::uint64_t seed) noexcept;

    // From now on the numbers are these, then 0.
    void retell(const drawn *told) noexcept { told_ = told; }
    void branch_by(branching *explorer) noexcept { explorer_ = explorer; }

    // 0 .. n-1, all alike.
    std::uint32_t draw(stream from, std::uint32_t n);
    // 0 with the chance 1 - p, else 1 .. n-1.
    std::uint32_t seldom(stream from, double p, std::uint32_t n = 2);
    // Who of n goes on. `free` as above; p: how likely it is not the one who runs.
    std::uint32_t who(std::uint32_t n, bool free, double p);
    // Bytes that are not kept: what they are changes nothing but themselves.
    void bytes(void *out, std::size_t size) noexcept;

    const drawn &taken() const noexcept { return taken_; }

private:
    std::uint32_t told(stream from, std::uint32_t n);

    std::array<generator, streams> generators_;
    generator bytes_;
    drawn taken_;
    const drawn *told_ = nullptr;
    branching *explorer_ = nullptr;
};

} // namespace parley::sim::detail
