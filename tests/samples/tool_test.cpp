// The program `parley`, as ./parley starts it.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

namespace {

const std::string tool = PARLEY_TOOL;

// The number after "name": in a line of JSON.
long long figure(const std::string &json, const std::string &name) {
    const std::size_t at = json.find('"' + name + "\":");
    REQUIRE_MESSAGE(at != json.npos, name, " is not in ", json);
    return std::stoll(json.substr(at + name.size() + 3));
}

outcome run_shell(const std::string &command) {
    return run_program("/bin/sh", {"-c", command});
}

} // namespace

TEST_CASE(
    "the demo proves that nothing is lost and nothing is left, in plain lines where there is no terminal") {
    const outcome ended = run_program(tool, {"demo", "--seconds", "1"});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(std::none_of(ended.output.begin(), ended.output.end(),
                       [](char c) { return c == '\r' || c == '\033'; }));
    for (const char *part : {"\ncoroutines served by coroutines\n", "\ncoroutines served by callbacks\n",
                             "\ncoroutines served by both\n", "\n100,000 sleeping coroutines\n",
                             "256 connections, every byte checked", "  100,000 started and finished"})
        CHECK(ended.output.find(part) != std::string::npos);

    const std::size_t last = ended.output.find_last_of('\n', ended.output.size() - 2) + 1;
    unsigned long long sent = 0, answered = 1;
    int end = 0;
    REQUIRE(std::sscanf(ended.output.c_str() + last, "proof: %llu sent, %llu answered, 0 lost, 0 leaked\n%n",
                        &sent, &answered, &end) == 2);
    CHECK(last + static_cast<std::size_t>(end) == ended.output.size());
    CHECK(sent == answered);
    CHECK(sent >= 3 * 2000); // each of the coroutines, in each part
}

TEST_CASE("the demo's figures are one line of JSON and nothing else") {
    const outcome ended = run_program(tool, {"demo", "--json", "--seconds", "1"});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(std::count(ended.output.begin(), ended.output.end(), '\n') == 1);
    CHECK(ended.output.starts_with("{\"version\":\""));
    CHECK(ended.output.ends_with("\"problems\":[],\"ok\":true}\n"));
    for (const char *part : {"coroutines", "callbacks", "mixed", "sleep"})
        CHECK(ended.output.find("{\"name\":\"" + std::string(part) + "\",") != std::string::npos);
    CHECK(figure(ended.output, "connections") == 256);
    CHECK(figure(ended.output, "finished") == 100'000);
    CHECK(figure(ended.output, "wrong") == 0);
    CHECK(figure(ended.output, "lost") == 0);
    CHECK(figure(ended.output, "leaked") == 0);
    CHECK(figure(ended.output, "p99") > 0);
}

TEST_CASE("the demo comes to its end although nobody reads its output any more") {
    process running(tool, {"demo", "--seconds", "1"});
    CHECK(running.read_line().value_or("").starts_with("parley demo: "));
    running.close_output();
    CHECK(running.wait() == 0);
    CHECK(running.errors() == "");
}

// Under sanitizers their runtime wants to be the first library, and would tell of the fault itself.
#if !defined(PARLEY_SANITIZED)
TEST_CASE("the demo says what is wrong and ends with status 1") {
    struct fault {
        const char *how;
        const char *complaint;
        const char *summary;
    };
    for (const fault &each :
         {fault{"byte", "coroutines: 1 answers were not what was sent\n", " 1 lost, 0 leaked\n"},
          fault{"reset", "coroutines: Connection reset by peer: ", " 1 lost, 0 leaked\n"},
          fault{"close", "left behind: 0 coroutine frames, 1 descriptors, 0 sessions\n",
                " 0 lost, 1 leaked\n"}}) {
        CAPTURE(each.how);
        process running(tool, {"demo", "--seconds", "1"}, process::output::pipe,
                        {"LD_PRELOAD=" PARLEY_SPOIL, "SPOIL=" + std::string(each.how)});
        const std::string output = running.read_rest();
        CAPTURE(output);
        CHECK(running.wait() == 1);
        CAPTURE(running.errors());
        CHECK(running.errors().find(each.complaint) != std::string::npos);
        CHECK(output.find("\nno proof: ") != std::string::npos);
        CHECK(output.ends_with(each.summary));
    }
}
#endif

TEST_CASE("the demo draws a bar on a terminal, and ends on SIGINT with a line and status 130") {
    process running(tool, {"demo", "--seconds", "20"}, process::output::terminal, {"TERM=xterm"});
    CHECK(running.read_until("coroutines served by coroutines").find("\033[1m") != std::string::npos); // bold
    CHECK(running.read_until(" %  ").find("\r\033[K  [....") != std::string::npos);
    running.send_signal(SIGINT);
    CHECK(running.wait() == 130);
    CHECK(running.errors() == "parley demo: interrupted; nothing is left behind\n");
}

TEST_CASE("the demo uses no colours where NO_COLOR is set") {
    process running(tool, {"demo", "--seconds", "20"}, process::output::terminal,
                    {"TERM=xterm", "NO_COLOR=1"});
    const std::string shown = running.read_until(" %  ");
    CHECK(shown.find("\r\033[K  [....") != std::string::npos);
    CHECK(shown.find("\033[1m") == std::string::npos);
    running.send_signal(SIGINT);
    CHECK(running.wait() == 130);
}

TEST_CASE("an interrupted demo prints no JSON") {
    process running(tool, {"demo", "--json", "--seconds", "20"});
    running.wait_until_catching(SIGINT);
    running.send_signal(SIGINT);
    CHECK(running.read_rest() == "");
    CHECK(running.wait() == 130);
    CHECK(running.errors() == "parley demo: interrupted; nothing is left behind\n");
}

TEST_CASE("the demo says what is missing if it may not have enough descriptors, with status 3") {
    const outcome ended = run_shell("ulimit -n 300; exec \"" + tool + "\" demo");
    CHECK(ended.status == 3);
    CHECK(ended.output == "");
    CHECK(ended.errors.find("descriptors and may have 300 (ulimit -n)") != std::string::npos);
}

TEST_CASE("the demo refuses arguments that it does not know with status 2") {
    for (const char *seconds : {"0", "3601", "-1", "x", "1.5", ""}) {
        CAPTURE(seconds);
        const outcome ended = run_program(tool, {"demo", "--seconds", seconds});
        CHECK(ended.status == 2);
        CHECK(ended.errors == "parley demo: --seconds wants a number from 1 to 3600\n");
    }
    CHECK(run_program(tool, {"demo", "--seconds"}).status == 2);
    CHECK(run_program(tool, {"demo", "--fast"}).status == 2);
    CHECK(run_program(tool, {"demo", "fast"}).status == 2);
}

TEST_CASE("the program explains itself") {
    const outcome help = run_program(tool, {"--help"});
    CHECK(help.status == 0);
    CHECK(help.output.starts_with("usage: parley COMMAND"));
    CHECK(help.output.find("parley demo [--json] [--seconds N]") != std::string::npos);
    const outcome demo_help = run_program(tool, {"demo", "--help"});
    CHECK(demo_help.status == 0);
    CHECK(demo_help.output.starts_with("usage: parley demo"));
    const outcome version = run_program(tool, {"--version"});
    CHECK(version.status == 0);
    CHECK(version.output.starts_with("parley 0."));
}

TEST_CASE("a command that does not exist is status 2 and a clear line") {
    const outcome ended = run_program(tool, {"dmeo"});
    CHECK(ended.status == 2);
    CHECK(ended.output == "");
    CHECK(ended.errors == "parley: there is no command \"dmeo\"; parley --help lists them\n");
    const outcome none = run_program(tool, {});
    CHECK(none.status == 2);
    CHECK(none.output == "");
    CHECK(none.errors.starts_with("usage: "));
}

TEST_CASE("output that cannot be written is status 1") {
    const outcome ended = run_shell("exec \"" + tool + "\" --version >/dev/full");
    CHECK(ended.status == 1);
    CHECK(ended.errors == "parley: the output could not be written\n");
}

TEST_CASE("the program runs with closed standard descriptors") {
    CHECK(run_shell("exec \"" + tool + "\" demo --json --seconds 1 <&- >&- 2>&-").status == 0);
}

TEST_CASE("serve shows a directory to who asks, in the clear or by TLS, until it is interrupted") {
    process running(tool, {"serve", "--port", "0", PARLEY_SAMPLES_SOURCE});
    const std::string first = running.read_line().value_or("");
    CAPTURE(first);
    const std::size_t colon = first.rfind(':');
    REQUIRE(first.starts_with("serving " PARLEY_SAMPLES_SOURCE " on http://127.0.0.1:"));
    client_socket peer(static_cast<unsigned short>(std::stoi(first.substr(colon + 1))));
    peer.send("GET /run_sample.hpp HTTP/1.1\r\nHost: a\r\nRange: bytes=3-11\r\nConnection: close\r\n\r\n");
    CHECK(peer.read_line() == "HTTP/1.1 206 Partial Content\r");
    std::string last, line;
    while (!(line = peer.read_line()).empty())
        last = line;
    CHECK(last == "How the s");
    CHECK(running.read_line().value_or("").find(" method=GET target=/run_sample.hpp status=206 bytes=9 ") !=
          std::string::npos);
    running.send_signal(SIGINT);
    CHECK(running.wait() == 0);
    CHECK(running.errors() == "");

    process secure(tool, {"serve", "--port", "0", "--tls", "--quiet", PARLEY_SAMPLES_SOURCE});
    CHECK(secure.read_line().value_or("").starts_with("certificate: SHA-256 "));
    CHECK(secure.read_line().value_or("").starts_with("serving " PARLEY_SAMPLES_SOURCE
                                                      " on https://127.0.0.1:"));
    secure.send_signal(SIGTERM);
    CHECK(secure.wait() == 0);
}

TEST_CASE("serve says what it does not understand, and what is missing") {
    const auto said = [](std::vector<std::string> words) {
        words.insert(words.begin(), "serve");
        const outcome ended = run_program(tool, words);
        return std::to_string(ended.status) + " " + ended.errors.substr(0, ended.errors.find('\n'));
    };
    CHECK(said({"--help"}) == "0 ");
    CHECK(said({"--port"}) == "2 parley serve: something is missing behind: \"--port\"");
    CHECK(said({"--port", "70000"}) == "2 parley serve: not a port: \"70000\"");
    CHECK(said({"--address", "localhost"}) == "2 parley serve: not an address: \"localhost\"");
    CHECK(said({"--fast"}) == "2 parley serve: there is no such option: \"--fast\"");
    CHECK(said({".", "."}) == "2 parley serve: one directory is enough: \".\"");
    CHECK(said({"/no/such"}) == "3 parley serve: /no/such: No such file or directory");
    const taken_port taken;
    CHECK(said({"--port", std::to_string(taken.number), "."})
              .starts_with("3 parley serve: Address already in use: listen"));
}
