#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("certificates by name, a client that is known, one that does not trust, and a reload") {
    const outcome ended = run_program(sample("28_tls"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output ==
          "shop.example: hello, stranger\n"
          "news.blog.example: hello, alice\n"
          "shop.example: the certificate of shop.example is signed by itself, by nobody whom we trust\n"
          "shop.example: the certificate is for new-shop.example, not for shop.example\n"
          "new-shop.example: hello, stranger\n");
}
