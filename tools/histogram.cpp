#include "histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

// Values below 16 have a bucket each; above, the bucket is the position of the highest bit and the four bits
// after it.
std::size_t histogram::bucket_of(std::uint64_t value) noexcept {
    if (value < 1u << fine_bits)
        return value;
    const int shift = static_cast<int>(std::bit_width(value)) - 1 - fine_bits;
    return (static_cast<std::size_t>(shift) << fine_bits) + (value >> shift);
}

// The largest value of the bucket.
std::uint64_t histogram::upper_end(std::size_t bucket) noexcept {
    if (bucket < 1u << fine_bits)
        return bucket;
    const std::size_t shift = (bucket >> fine_bits) - 1;
    const std::uint64_t mantissa = (bucket & ((1u << fine_bits) - 1)) + (1u << fine_bits);
    return ((mantissa + 1) << shift) - 1;
}

void histogram::add(duration value) noexcept {
    const std::int64_t ns = std::max<std::int64_t>(value.count(), 0);
    counts_[bucket_of(static_cast<std::uint64_t>(ns))]++;
    count_++;
    max_ = std::max(max_, ns);
}

void histogram::add(const histogram &other) noexcept {
    for (std::size_t i = 0; i < buckets; i++)
        counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
}

histogram::duration histogram::percentile(double part) const noexcept {
    const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets; i++) {
        seen += counts_[i];
        if (seen >= wanted && seen != 0)
            return std::min(duration(static_cast<std::int64_t>(upper_end(i))), max());
    }
    return duration(0);
}

std::vector<histogram::row> histogram::rows(std::size_t at_most) const {
    std::array<std::uint64_t, 64> by_power{}; // [n]: values below 2^n and not below 2^(n-1)
    for (std::size_t i = 0; i < buckets; i++)
        by_power[std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(upper_end(i))), 63)] +=
            counts_[i];
    std::size_t first = 0, last = 63;
    while (first < last && by_power[first] == 0)
        first++;
    while (last > first && by_power[last] == 0)
        last--;

    std::size_t powers = 1; // of two, in a row
    while ((last - first + powers) / powers > at_most)
        powers++;
    std::vector<row> all;
    for (std::size_t begin = first; begin <= last && count_ != 0; begin += powers) {
        row next{duration(std::int64_t{1} << std::min<std::size_t>(begin + powers - 1, 62)), 0};
        for (std::size_t i = begin; i < begin + powers && i < by_power.size(); i++)
            next.count += by_power[i];
        all.push_back(next);
    }
    return all;
}
