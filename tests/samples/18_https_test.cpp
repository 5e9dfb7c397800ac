#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("HTTPS: who trusts the certificate is greeted, who does not is told why not") {
    const outcome ended = run_program(sample("18_https"), {});
    CHECK(ended.status == 0);
    CHECK(ended.errors == "");
    CHECK(ended.output.starts_with("200 hello over TLSv1.3\n"));
    CHECK(ended.output.find("is signed by itself") != std::string::npos);
}
