// A client in coroutines: sends each word of the command line to a line server and prints what comes back.
// The connection is opened by the first request and kept for the next one.
// Run sample 02, and in another terminal: 03_echo_client hello world

#include <iostream>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// [client]
parley::task<> ask(parley::endpoint where, std::vector<std::string> texts) {
    parley::client<lines> server(where);
    for (const std::string &text : texts) {
        auto answer = co_await server.request(parley::line_message(text));
        std::cout << answer.value().text() << '\n'; // value() throws when there is none
    }
}
// [/client]

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "[--port N] TEXT...", 7000);
    try {
        parley::run(ask(parley::endpoint("127.0.0.1", given.port), given.words));
        return 0;
    } catch (const parley::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
