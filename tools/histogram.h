// How often something took how long: counted in buckets that grow with the value, so that any percentile is
// known to about six per cent and adding costs nothing. One thread at a time.

#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

class histogram {
public:
    using duration = std::chrono::nanoseconds;

    // Less than nothing counts as nothing.
    void add(duration value) noexcept;
    void add(const histogram &other) noexcept;

    std::uint64_t count() const noexcept { return count_; }
    duration max() const noexcept { return duration(max_); }
    // The value that this part (0 to 1) of all values does not exceed; 0 when there are none.
    duration percentile(double part) const noexcept;

    // Few rows for people to look at, with limits that are powers of two, the last one above all values.
    struct row {
        duration below;
        std::uint64_t count;
    };
    std::vector<row> rows(std::size_t at_most) const;

private:
    static constexpr int fine_bits = 4; // 16 buckets for each power of two
    static constexpr std::size_t buckets = (64 - fine_bits + 1) << fine_bits;
    static std::size_t bucket_of(std::uint64_t value) noexcept;
    static std::uint64_t upper_end(std::size_t bucket) noexcept;

    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t count_ = 0;
    std::int64_t max_ = 0;
};
