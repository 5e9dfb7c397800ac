// parley serve DIR: a server of files, for the machine's own browser unless it is told otherwise.

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <parley/http/files.hpp>
#include <parley/http/server.hpp>
#include <parley/parley.hpp>

#include "command.h"

namespace {

namespace http = parley::http;

constexpr const char *usage =
    "usage: parley serve [--port N] [--address ADDRESS] [--tls] [--quiet] [DIR]\n\n"
    "Serves the files of DIR, the present directory if none is named, by HTTP until it is interrupted.\n\n"
    "  --port N           8000 at first, 8443 with --tls; 0 takes any\n"
    "  --address ADDRESS  127.0.0.1 at first: only this machine can ask; 0.0.0.0 is for everybody\n"
    "  --tls              by HTTPS, with a certificate made for the occasion; prints its fingerprint\n"
    "  --quiet            no line for each request\n\n"
    "Names that begin with a dot, and links that lead out of DIR, are not served. One range at a time, "
    "conditional\n"
    "requests and lists of directories are.\n";

struct options {
    std::string directory = ".";
    std::string address = "127.0.0.1";
    std::optional<std::uint16_t> port;
    bool tls = false;
    bool quiet = false;
    bool help = false;
};

std::optional<options> refuse(std::string_view why, std::string_view what) {
    std::fprintf(stderr, "parley serve: %.*s: \"%.*s\"\n%s", static_cast<int>(why.size()), why.data(),
                 static_cast<int>(what.size()), what.data(), usage);
    return {};
}

std::optional<options> parse(arguments given) {
    options wanted;
    bool named = false;
    for (std::size_t i = 0; i < given.size(); ++i) {
        const std::string_view word = given[i];
        if (word == "--help" || word == "-h") {
            wanted.help = true;
            return wanted;
        }
        if (word == "--tls") {
            wanted.tls = true;
        } else if (word == "--quiet") {
            wanted.quiet = true;
        } else if (word == "--port" || word == "--address") {
            if (i + 1 == given.size())
                return refuse("something is missing behind", word);
            const std::string_view value = given[++i];
            if (word == "--address") {
                wanted.address = value;
                if (parley::endpoint(wanted.address, 0).is_name())
                    return refuse("not an address", value);
                continue;
            }
            std::uint16_t port = 0;
            const auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), port);
            if (failed != std::errc() || end != value.data() + value.size())
                return refuse("not a port", value);
            wanted.port = port;
        } else if (word.starts_with("-") && word != "-") {
            return refuse("there is no such option", word);
        } else if (named) {
            return refuse("one directory is enough", word);
        } else {
            wanted.directory = word;
            named = true;
        }
    }
    return wanted;
}

void log(const http::access_record &one) {
    std::printf("%s\n", http::to_logfmt(one).c_str());
    std::fflush(stdout);
}

int complain(const parley::error &why) {
    std::fprintf(stderr, "parley serve: %s\n", parley::to_string(why).c_str());
    return missing;
}

parley::task<int> serve_until_signal(options wanted) {
    parley::signal_set signals(SIGINT, SIGTERM);
    http::server_options how;
    if (!wanted.quiet)
        how.on_access(log);
    const std::uint16_t port = wanted.port.value_or(wanted.tls ? 8443 : 8000);
    if (wanted.tls) {
        const auto made = parley::tls::certificate::self_signed({"localhost", wanted.address});
        if (!made)
            co_return complain(made.error());
        const auto context =
            parley::tls::context::server(parley::tls::server_options().add(*made).alpn("http/1.1"));
        if (!context)
            co_return complain(context.error());
        how.tls(*context);
        std::printf("certificate: SHA-256 %s\n", made->fingerprint().c_str());
    }
    http::router routes;
    routes.get("/{path...}", http::files(wanted.directory, http::file_options().listing()));
    http::server door(parley::endpoint(wanted.address, port), std::move(routes), how);
    const auto local = co_await door.listen();
    if (!local)
        co_return complain(local.error());
    std::printf("serving %s on %s://%s/\n", wanted.directory.c_str(), wanted.tls ? "https" : "http",
                local->to_string().c_str());
    std::fflush(stdout);
    co_await signals.wait();
    const auto drained = co_await door.drain(std::chrono::seconds(5));
    if (!drained)
        co_return complain(drained.error());
    co_return done;
}

} // namespace

int serve(arguments given) {
    const std::optional<options> wanted = parse(given);
    if (!wanted)
        return not_understood;
    if (wanted->help) {
        std::fputs(usage, stdout);
        return done;
    }
    std::error_code failure;
    if (!std::filesystem::is_directory(wanted->directory, failure)) {
        std::fprintf(stderr, "parley serve: %s: %s\n", wanted->directory.c_str(),
                     failure ? failure.message().c_str() : "not a directory");
        return missing;
    }
    return parley::run(serve_until_signal(*wanted));
}
