#include "head_scanner.hpp"

#include <string>

namespace parley::http {
namespace {

constexpr std::size_t most_skipped = 8; // four empty lines

bool is_token_character(char c) {
    return is_token(std::string_view(&c, 1));
}

std::string in_line(std::size_t line) {
    return line == 1 ? "start line: " : "header line " + std::to_string(line) + ": ";
}

} // namespace

head_scanner::verdict head_scanner::scan(std::string_view input, const limits &most, bool request,
                                         std::size_t &taken, parse_error &why) {
    const auto refuse = [&](int status, std::string what, const char *section) {
        why = {status, std::move(what), section};
        return verdict::refused;
    };
    for (taken = 0; taken < input.size();) {
        const char c = input[taken++];
        if (c == '\n') {
            if (!return_)
                return refuse(400, in_line(line_) + "a line feed without a carriage return", "2.2");
            return_ = false;
            if (column_ == 0 && line_ == 1) {
                skipped_ += 2;
                if (!request || skipped_ > most_skipped)
                    return refuse(400, "start line: an empty line stands in its place", "2.2");
                continue;
            }
            total_ += 2;
            if (total_ > most.header_bytes())
                return refuse(
                    431, "the header is longer than " + std::to_string(most.header_bytes()) + " bytes", "");
            if (column_ == 0)
                return verdict::complete;
            column_ = 0;
            ++line_;
            continue;
        }
        if (return_)
            return refuse(400, in_line(line_) + "a carriage return without a line feed", "2.2");
        if (c == '\r') {
            return_ = true;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && c != '\t') || byte == 0x7f)
            return refuse(400, in_line(line_) + "a control character", line_ == 1 ? "3" : "5");
        if (column_ == 0 && line_ > 1) {
            if (c == ' ' || c == '\t')
                return refuse(400, in_line(line_) + (line_ == 2 ? "it begins with a blank" : "a folded line"),
                              line_ == 2 ? "2.2" : "5.2");
            if (line_ - 1 > most.header_count())
                return refuse(
                    431, "the header has more than " + std::to_string(most.header_count()) + " fields", "");
        }
        // What is no HTTP at all is seen before its end, which may never come.
        if (line_ == 1 && request && in_method_) {
            if (c == ' ' && column_ != 0)
                in_method_ = false;
            else if (!is_token_character(c))
                return refuse(400, "start line: the method is no token", "3.1");
        }
        ++column_;
        ++total_;
        if (column_ > (line_ == 1 ? most.start_line() : most.header_line())) {
            if (line_ == 1)
                return refuse(request ? 414 : 400,
                              "start line: longer than " + std::to_string(most.start_line()) + " bytes", "3");
            return refuse(
                431, in_line(line_) + "longer than " + std::to_string(most.header_line()) + " bytes", "");
        }
        if (total_ > most.header_bytes())
            return refuse(431, "the header is longer than " + std::to_string(most.header_bytes()) + " bytes",
                          "");
    }
    return verdict::need_more;
}

} // namespace parley::http
