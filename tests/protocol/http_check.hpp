// What must hold for every input of the parser: it tells the same however the input is split, and what the reference
// makes of it. For the fuzzer, its corpus, and the generated inputs.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "http_reference.hpp"
#include "http_told.hpp"

// Empty when all is well, else what differs.
inline std::string what_differs(bool request, std::string_view answers, std::string_view input,
                                std::size_t split) {
    const auto role = request ? parley::http::parser::request : parley::http::parser::response;
    const auto differ = [&](const char *how, const std::string &a, const std::string &b) {
        return std::string(how) + "\n  " + a + "\n  " + b + "\n  of " + std::string(input);
    };
    const std::string whole = told_of_pieces(role, {input}, answers, {});
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < input.size(); ++i)
        bytes.push_back(input.substr(i, 1));
    if (const std::string told = told_of_pieces(role, bytes, answers, {}); told != whole)
        return differ("whole and byte by byte:", whole, told);
    split = input.empty() ? 0 : split % input.size();
    if (const std::string told =
            told_of_pieces(role, {input.substr(0, split), input.substr(split)}, answers, {});
        told != whole)
        return differ("whole and in two pieces:", whole, told);
    const std::string expected = reference_told(request, input, answers);
    if (const std::string told = without_reason(whole); told != expected)
        return differ("parser and reference:", whole, expected);
    return {};
}

// An input of the fuzzer: a byte for the role and what is answered, one for the split, and the rest. Longer ones would
// only reach the limits, which the reference does not have.
inline std::string what_differs(std::string_view fuzzed) {
    if (fuzzed.size() < 2 || fuzzed.size() > 4000)
        return {};
    const unsigned kind = static_cast<unsigned char>(fuzzed[0]) % 4;
    const std::string_view answers = kind == 2 ? "HEAD" : kind == 3 ? "CONNECT" : "";
    return what_differs(kind == 0, answers, fuzzed.substr(2), static_cast<unsigned char>(fuzzed[1]));
}
