// Bodies of messages that both sides can make again from a number, so that every byte that comes back is
// checked without anything being kept.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

// Writes the `size` bytes that belong to `seed`.
void fill_pattern(char *to, std::size_t size, std::uint64_t seed) noexcept;

// Whether these are exactly the bytes that belong to `seed`.
bool is_pattern(std::string_view bytes, std::uint64_t seed) noexcept;

// Numbers in an order that looks like none (splitmix64).
class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) noexcept : state_(seed) {}
    std::uint64_t next() noexcept;
    double next_part() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; } // from 0 to below 1

private:
    std::uint64_t state_;
};
