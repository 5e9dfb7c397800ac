// limits: how much of an HTTP message is taken before it is refused. On by default, for servers and clients.
//
//     parley::http::limits strict = parley::http::limits().header_bytes(16384).body(1 << 20);

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace parley::http {

// A value; each function sets one and returns the object, or tells it. All in bytes unless they say otherwise.
class limits {
public:
    static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();

    // The start line; a request with a longer one is answered by 414.
    limits &start_line(std::size_t bytes) { return start_line_ = bytes, *this; }
    [[nodiscard]] std::size_t start_line() const noexcept { return start_line_; }
    // One line of the header: 431.
    limits &header_line(std::size_t bytes) { return header_line_ = bytes, *this; }
    [[nodiscard]] std::size_t header_line() const noexcept { return header_line_; }
    // The start line and the header with all its line ends: 431.
    limits &header_bytes(std::size_t bytes) { return header_bytes_ = bytes, *this; }
    [[nodiscard]] std::size_t header_bytes() const noexcept { return header_bytes_; }
    // Fields of the header: 431.
    limits &header_count(std::size_t fields) { return header_count_ = fields, *this; }
    [[nodiscard]] std::size_t header_count() const noexcept { return header_count_; }
    // The body, without chunk headers, where it is kept whole: 413, as soon as Content-Length says it.
    limits &body(std::uint64_t bytes) { return body_ = bytes, *this; }
    [[nodiscard]] std::uint64_t body() const noexcept { return body_; }
    // The line with the size of a chunk and its extensions: 400.
    limits &chunk_header(std::size_t bytes) { return chunk_header_ = bytes, *this; }
    [[nodiscard]] std::size_t chunk_header() const noexcept { return chunk_header_; }
    // The trailer, and the fields in it: 431.
    limits &trailer_bytes(std::size_t bytes) { return trailer_bytes_ = bytes, *this; }
    [[nodiscard]] std::size_t trailer_bytes() const noexcept { return trailer_bytes_; }
    limits &trailer_count(std::size_t fields) { return trailer_count_ = fields, *this; }
    [[nodiscard]] std::size_t trailer_count() const noexcept { return trailer_count_; }
    // Answers with a status of 1xx before the one that counts.
    limits &interim_answers(std::size_t count) { return interim_answers_ = count, *this; }
    [[nodiscard]] std::size_t interim_answers() const noexcept { return interim_answers_; }

private:
    std::uint64_t body_ = std::uint64_t{1} << 20;
    std::size_t start_line_ = 8192;
    std::size_t header_line_ = 16384;
    std::size_t header_bytes_ = 65536;
    std::size_t header_count_ = 100;
    std::size_t chunk_header_ = 4096;
    std::size_t trailer_bytes_ = 8192;
    std::size_t trailer_count_ = 32;
    std::size_t interim_answers_ = 8;
};

} // namespace parley::http
