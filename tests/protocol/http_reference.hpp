// A second HTTP/1.1 parser, slow and simple, written from the grammar of RFC 9112 for nothing but to be compared with
// the one that programs use. It sees its input whole and holds no state.

#pragma once

#include <string>
#include <string_view>

// What it makes of all messages in the input, in the words of told_of_pieces(); whatever is refused or cut off is
// "refused". Its inputs stay below parley::http::limits.
std::string reference_told(bool request, std::string_view input, std::string_view answers);
// told_of_pieces() with its errors in these words.
std::string without_reason(std::string told);
