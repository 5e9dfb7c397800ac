// libFuzzer on the HTTP parser (option PARLEY_BUILD_FUZZ, with clang):
//
//     build/fuzz/tests/fuzz/fuzz_http_parser -max_len=2000 -max_total_time=60 NEW tests/fuzz/corpus/http_parser

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string what = what_differs(std::string_view(reinterpret_cast<const char *>(data), size));
    if (!what.empty()) {
        std::fprintf(stderr, "%s\n", what.c_str());
        std::abort();
    }
    return 0;
}
