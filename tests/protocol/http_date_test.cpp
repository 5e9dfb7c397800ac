// Dates, in the three forms of RFC 9110 section 5.6.7.

#include <parley/http/date.hpp>

#include <doctest/doctest.h>

namespace http = parley::http;

TEST_CASE("a date there and back") {
    CHECK(http::to_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"); // the example of the RFC
    CHECK(http::to_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(http::parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777);
    CHECK(http::parse_date("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777);
    CHECK(http::parse_date("Sun Nov  6 08:49:37 1994") == 784111777);
    CHECK(http::parse_date("Wed Nov 16 08:49:37 1994") == 784111777 + 10 * 86400);
}

TEST_CASE("what is no date") {
    for (const char *text :
         {"", "Sun", "yesterday", "784111777", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
          "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT",
          "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Now 1994 08:49:37 GMT",
          "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun Nov 6 08:49:37 1994"})
        CHECK_FALSE(http::parse_date(text));
}
