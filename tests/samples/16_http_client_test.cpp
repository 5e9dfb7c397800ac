#include <csignal>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the client asks for several pages, and says of each what came of it") {
    server running("17_http_server");
    const std::string at = "http://127.0.0.1:" + std::to_string(running.port);
    const outcome good = run_program(sample("16_http_client"), {at + "/hello/you", at + "/count/3"});
    CHECK(good.status == 0);
    CHECK(good.errors == "");
    CHECK(good.output.find(at + "/hello/you: 200 OK, 11 bytes of text/plain; charset=utf-8\n") !=
          std::string::npos);
    CHECK(good.output.find(at + "/count/3: 200 OK, 6 bytes of text/plain\n") != std::string::npos);
    const outcome missing = run_program(sample("16_http_client"), {at + "/nothing"});
    CHECK(missing.status == 1);
    CHECK(missing.output == at + "/nothing: 404 Not Found, 10 bytes of text/plain; charset=utf-8\n");
    CHECK(stop(running) == 0);

    const outcome refused = run_program(sample("16_http_client"), {at + "/hello/you"});
    CHECK(refused.status == 1);
    CHECK(refused.errors.find("Connection refused: connect, 127.0.0.1:") != std::string::npos);
    const outcome wrong = run_program(sample("16_http_client"), {"nonsense"});
    CHECK(wrong.status == 1);
    CHECK(wrong.errors.find("no URL: \"nonsense\"") != std::string::npos);
}
