#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <sstream>
#include <string>
#include <system_error>

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <parley/error.hpp>
#include <parley/result.hpp>

using namespace std::chrono_literals;
using parley::errc;
using parley::error;
using parley::stage;

namespace {

std::string printed(const error &e) {
    std::ostringstream out;
    out << e;
    return out.str();
}

} // namespace

TEST_CASE("an error prints what went wrong, where, with whom and after how long") {
    CHECK(printed({errc::timed_out, stage::receive, "127.0.0.1:7000", 1s}) ==
          "timed out: receive, 127.0.0.1:7000, after 1.000 s");
    CHECK(printed({errc::timed_out, stage::first_byte, "[::1]:80", 1500us}) ==
          "timed out: first byte, [::1]:80, after 0.002 s");
    CHECK(printed(errc::end_of_stream) == "end of stream");
    CHECK(printed({errc::closed, stage::send}) == "closed: send");
    CHECK(printed({errc::bad_message, stage::receive, "/run/x", {}, "length 4294967295"}) ==
          "bad message: receive, /run/x (length 4294967295)");
    CHECK(printed({parley::system_error_code(ECONNREFUSED), stage::connect, "10.0.0.1:1"}) ==
          "Connection refused: connect, 10.0.0.1:1");
}

TEST_CASE("parley's errors equal the standard's conditions where these have a word for them") {
    CHECK(error(errc::timed_out) == std::errc::timed_out);
    CHECK(error(errc::timed_out) == errc::timed_out);
    CHECK(error(errc::timed_out) != errc::closed);
    CHECK(error(errc::end_of_stream) != std::errc::timed_out);
    CHECK(error(errc::stopping) == std::errc::operation_canceled);
    CHECK(error(errc::no_turn) == std::errc::operation_not_permitted);
    CHECK(error(errc::no_runtime) == std::errc::operation_not_permitted);
    CHECK(error(errc::closed) == std::errc::bad_file_descriptor);
    CHECK(error(errc::bad_endpoint) == std::errc::invalid_argument);
    CHECK(error(errc::bad_message) == std::errc::bad_message);
    CHECK(error(parley::system_error_code(ETIMEDOUT)) == std::errc::timed_out);
    std::error_code code = errc::timed_out;
    CHECK(code.category() == parley::parley_category());
    CHECK(std::string(code.category().name()) == "parley");
}

TEST_CASE("every code of parley has a message of its own") {
    for (int i = 1; i <= static_cast<int>(errc::bad_message); ++i) {
        std::string text = parley::make_error_code(static_cast<errc>(i)).message();
        CHECK(text.find("unknown") == std::string::npos);
        CHECK(!text.empty());
    }
    CHECK(parley::make_error_code(static_cast<errc>(999)).message() == "unknown error 999");
}

TEST_CASE("a TLS error has OpenSSL's reason and a rejected certificate the verification's") {
    std::error_code refused = parley::tls_error(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_WRONG_VERSION_NUMBER));
    CHECK(refused.message() == "wrong version number");
    CHECK(refused == std::errc::protocol_error);
    std::error_code expired = parley::tls_verify_error(X509_V_ERR_CERT_HAS_EXPIRED);
    CHECK(expired.message() == "certificate has expired");
    CHECK(expired == std::errc::permission_denied);
    CHECK(std::string(expired.category().name()) == "tls");
}

TEST_CASE("a failed look-up has the resolver's words") {
    std::error_code unknown = parley::resolve_error(EAI_NONAME);
    CHECK(unknown.message() == std::string(::gai_strerror(EAI_NONAME)));
    CHECK(unknown == std::errc::address_not_available);
    CHECK(parley::resolve_error(EAI_AGAIN) == std::errc::resource_unavailable_try_again);
    CHECK(std::string(unknown.category().name()) == "resolve");
}

TEST_CASE("an exception carries the error and prints it") {
    parley::exception e(error(errc::timed_out, stage::connect, "host:1", 2s));
    CHECK(std::string(e.what()) == "timed out: connect, host:1, after 2.000 s");
    CHECK(e.code() == errc::timed_out);
    CHECK(e.error().peer() == "host:1");
    try {
        throw e;
    } catch (const std::system_error &caught) {
        CHECK(caught.code() == std::errc::timed_out);
        CHECK(std::string(caught.what()) == e.what());
    }
}

TEST_CASE("copies of an error share its texts and keep them alive") {
    error copy;
    {
        error e(errc::closed, stage::send, "a peer with a rather long name", 1ms, "a detail");
        copy = e;
    }
    CHECK(copy.peer() == "a peer with a rather long name");
    CHECK(copy.detail() == "a detail");
    error moved = std::move(copy);
    CHECK(moved.peer() == "a peer with a rather long name");
    moved.set_stage(stage::receive).set_peer("other").set_elapsed(3s).set_detail("");
    CHECK(printed(moved) == "closed: receive, other, after 3.000 s");
    CHECK(error() == std::error_code());
    static_assert(std::is_nothrow_move_constructible_v<error>);
    static_assert(sizeof(error) == sizeof(void *));
    static_assert(sizeof(parley::result<>) == sizeof(void *));
}

TEST_CASE("changing an error leaves its copies as they were") {
    const error first(errc::closed, stage::send, "peer", 1ms, "detail");
    error second = first;
    second.set_stage(stage::tls).set_peer("").set_elapsed({}).set_detail("another");
    CHECK(printed(first) == "closed: send, peer, after 0.001 s (detail)");
    CHECK(printed(second) == "closed: tls (another)");
    second.set_detail(second.detail().substr(2)); // a part of what it replaces
    CHECK(second.detail() == "other");
    CHECK(printed(error().set_stage(stage::idle)).ends_with(": idle"));
}

TEST_CASE("a failure without a code is a failure") {
    const parley::result<> failed = parley::unexpected(error());
    CHECK(!failed);
    CHECK(failed.error() == std::error_code());
    CHECK_THROWS_AS(failed.value(), parley::exception);
}

TEST_CASE("every stage has a name") {
    for (int i = 1; i <= static_cast<int>(stage::shutdown); ++i) {
        std::ostringstream out;
        out << static_cast<stage>(i);
        CHECK(!out.str().empty());
    }
    CHECK(std::string(parley::to_string(stage::none)).empty());
    CHECK(std::string(parley::to_string(stage::shutdown)) == "shutdown");
    CHECK(std::string(parley::to_string(stage::pool_wait)) == "pool wait");
}
