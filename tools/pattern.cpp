#include "pattern.h"

#include <cstring>

namespace {

// One multiplication for eight bytes: a body is made and checked faster than it is sent.
constexpr std::uint64_t step(std::uint64_t word) noexcept {
    return word * 6364136223846793005u + 1442695040888963407u;
}

} // namespace

void fill_pattern(char *to, std::size_t size, std::uint64_t seed) noexcept {
    std::uint64_t word = seed;
    for (; size >= sizeof word; to += sizeof word, size -= sizeof word) {
        word = step(word);
        std::memcpy(to, &word, sizeof word);
    }
    word = step(word);
    if (size != 0)
        std::memcpy(to, &word, size);
}

bool is_pattern(std::string_view bytes, std::uint64_t seed) noexcept {
    std::uint64_t word = seed, found, differs = 0;
    const char *at = bytes.data();
    std::size_t size = bytes.size();
    for (; size >= sizeof word; at += sizeof word, size -= sizeof word) {
        word = step(word);
        std::memcpy(&found, at, sizeof found);
        differs |= word ^ found;
    }
    word = step(word);
    return differs == 0 && (size == 0 || std::memcmp(at, &word, size) == 0);
}

std::uint64_t random_numbers::next() noexcept {
    std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}
