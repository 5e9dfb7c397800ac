// Asks HTTP servers, several at once, with a limit of time for all of them. While sample 17 runs:
// 16_http_client http://127.0.0.1:8080/hello/world http://127.0.0.1:8080/count/3
// Redirections are followed, https is checked; what did not come to an answer says why.

#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include <parley/http/client.hpp>
#include <parley/parley.hpp>

#include "arguments.hpp"

namespace http = parley::http;
using namespace std::chrono_literals;

// [get]
parley::task<bool> show(const http::client &client, std::string url) {
    auto page = co_await client.get(url);
    if (!page) {
        std::cerr << url << ": " << page.error() << '\n';
        co_return false;
    }
    std::cout << url << ": " << page->status() << ' ' << page->reason() << ", " << page->body().size()
              << " bytes of " << page->header("Content-Type") << '\n';
    co_return page->ok();
}
// [/get]

// [all]
parley::task<int> show_all(std::vector<std::string> urls) {
    const http::client client;
    std::vector<parley::task<bool>> all;
    for (std::string &url : urls)
        all.push_back(show(client, std::move(url)));
    auto shown = co_await parley::with_timeout(10s, parley::when_all(std::move(all)));
    if (!shown) {
        std::cerr << shown.error() << '\n';
        co_return 1;
    }
    for (const bool good : *shown)
        if (!good)
            co_return 1;
    co_return 0;
}
// [/all]

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "URL...");
    return parley::run(show_all(given.words));
}
