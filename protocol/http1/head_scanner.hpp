// What can be said of a head byte by byte: where its lines end, that nothing stands in it that two programs could
// read differently, and that it stays within its limits. So a head is refused at the same byte however it came.

#pragma once

#include <cstddef>
#include <string_view>

#include <parley/http/parser.hpp>

namespace parley::http {

class head_scanner {
public:
    enum class verdict { need_more, complete, refused };

    void reset() noexcept { *this = head_scanner(); }

    // Looks at `input` up to the end of the head at most; `taken` says how far. Empty lines before a request
    // (RFC 9112 section 2.2) count as taken: skipped() of them do not belong to the head.
    verdict scan(std::string_view input, const limits &most, bool request, std::size_t &taken,
                 parse_error &why);

    [[nodiscard]] std::size_t skipped() const noexcept { return skipped_; }
    [[nodiscard]] bool begun() const noexcept { return total_ != 0; }

private:
    std::size_t total_ = 0;  // of the head, in bytes
    std::size_t column_ = 0; // of the line, without its end
    std::size_t line_ = 1;
    std::size_t skipped_ = 0; // bytes of empty lines before it
    bool return_ = false;     // the last byte was a CR
    bool in_method_ = true;
};

} // namespace parley::http
