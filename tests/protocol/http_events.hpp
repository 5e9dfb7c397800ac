// told_of_pieces() of an input that is fed whole, byte by byte, and in all splits into two, and must tell the same each
// time.

#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "http_told.hpp"

inline std::string told_of(parley::http::parser::role role, std::string_view input,
                           std::string_view answers = "", const parley::http::limits &most = {}) {
    const std::string whole = told_of_pieces(role, {input}, answers, most);
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < input.size(); ++i)
        bytes.push_back(input.substr(i, 1));
    CHECK(told_of_pieces(role, bytes, answers, most) == whole);
    for (std::size_t i = 1; i < input.size(); ++i) {
        const std::string split = told_of_pieces(role, {input.substr(0, i), input.substr(i)}, answers, most);
        CAPTURE(i);
        CHECK(split == whole);
    }
    return whole;
}
