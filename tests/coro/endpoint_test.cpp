#include <parley/endpoint.hpp>

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>
#include <sstream>
#include <string>

using parley::endpoint;
using parley::errc;

namespace {

endpoint there_and_back(const endpoint &where) {
    sockaddr_storage address;
    socklen_t length = where.to_sockaddr(address).value();
    return endpoint(reinterpret_cast<sockaddr *>(&address), length);
}

} // namespace

TEST_CASE("literals are recognised, with brackets and without") {
    CHECK(endpoint("127.0.0.1", 80).kind() == endpoint::kind::ipv4);
    CHECK(endpoint("::1", 80).kind() == endpoint::kind::ipv6);
    CHECK(endpoint("[::1]", 80) == endpoint("::1", 80));
    CHECK(endpoint("0:0:0:0:0:0:0:1", 80) == endpoint("::1", 80));
    CHECK(endpoint("::1%lo", 80).kind() == endpoint::kind::ipv6);
    CHECK(endpoint("::1%1", 80).kind() == endpoint::kind::ipv6);
    CHECK(endpoint("localhost", 80).is_name());
    CHECK(endpoint("127.0.0.1.example.org", 80).is_name());
    CHECK(endpoint("256.0.0.1", 80).is_name()); // the resolver will say that there is none
    CHECK(endpoint("::1%nosuchinterface", 80).is_name());
    CHECK(!endpoint());
}

TEST_CASE("an endpoint as text") {
    CHECK(endpoint("127.0.0.1", 7000).to_string() == "127.0.0.1:7000");
    CHECK(endpoint("[0:0::1]", 7000).to_string() == "[::1]:7000");
    CHECK(endpoint("example.org", 443).to_string() == "example.org:443");
    CHECK(endpoint::unix_path("/run/x").to_string() == "unix:/run/x");
    CHECK(endpoint::unix_path("@abstract").to_string() == "unix:@abstract");
    CHECK(endpoint().to_string() == "nowhere");
    std::ostringstream out;
    out << endpoint("10.0.0.1", 1);
    CHECK(out.str() == "10.0.0.1:1");
    CHECK(endpoint("10.0.0.1", 1).with_port(2).to_string() == "10.0.0.1:2");
}

TEST_CASE("parse reads what to_string writes") {
    for (const char *text : {"127.0.0.1:7000", "[::1]:80", "[fe80::1%lo]:80", "example.org:443", "a-b_c.d:0",
                             "unix:/run/parley/door", "unix:@abstract", "0.0.0.0:65535"}) {
        CAPTURE(text);
        auto where = endpoint::parse(text);
        REQUIRE(where);
        CHECK(where->to_string() == text);
    }
}

TEST_CASE("parse says what is wrong") {
    struct {
        const char *text;
        const char *reason;
    } const wrong[] = {
        {"", "a port is missing"},           {"localhost", "a port is missing"},
        {"[::1]", "a port is missing"},      {"localhost:", "from 0 to 65535"},
        {"localhost:http", "from 0 to"},     {"localhost:65536", "from 0 to"},
        {"localhost:-1", "from 0 to"},       {"localhost: 80", "from 0 to"},
        {":80", "a host is missing"},        {"::1:80", "in brackets"},
        {"fe80::1:80", "in brackets"},       {"[::g]:80", "neither a host's name nor an address"},
        {"a b:80", "neither a host's name"}, {"unix:", "a path is missing"},
    };
    for (const auto &one : wrong) {
        CAPTURE(one.text);
        auto where = endpoint::parse(one.text);
        REQUIRE(!where);
        CHECK(where.error() == errc::bad_endpoint);
        CHECK(where.error() == std::errc::invalid_argument);
        CHECK(std::string(where.error().detail()).find(one.reason) != std::string::npos);
        CHECK(std::string(where.error().detail()).find(one.text) != std::string::npos);
    }
}

TEST_CASE("endpoints and sockaddrs") {
    CHECK(there_and_back(endpoint("1.2.3.4", 5)) == endpoint("1.2.3.4", 5));
    CHECK(there_and_back(endpoint("2001:db8::1", 5)) == endpoint("2001:db8::1", 5));
    CHECK(there_and_back(endpoint("fe80::1%1", 5)) == endpoint("fe80::1%1", 5));
    CHECK(there_and_back(endpoint::unix_path("/run/x")) == endpoint::unix_path("/run/x"));
    CHECK(there_and_back(endpoint::unix_path("@x")) == endpoint::unix_path("@x"));

    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(80);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(endpoint(reinterpret_cast<sockaddr *>(&in), sizeof in) == endpoint("127.0.0.1", 80));
    CHECK(!endpoint(reinterpret_cast<sockaddr *>(&in), 4));
    sockaddr unknown{};
    unknown.sa_family = AF_APPLETALK;
    CHECK(!endpoint(&unknown, sizeof unknown));
    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    endpoint client(reinterpret_cast<sockaddr *>(&unnamed), sizeof(sa_family_t));
    CHECK(client.is_unix());
    CHECK(client.host().empty());
}

TEST_CASE("what has no sockaddr says why") {
    sockaddr_storage address;
    CHECK(endpoint("example.org", 80).to_sockaddr(address).error() ==
          std::errc::destination_address_required);
    CHECK(endpoint().to_sockaddr(address).error() == errc::bad_endpoint);
    endpoint long_path = endpoint::unix_path("/" + std::string(107, 'x'));
    auto too_long = long_path.to_sockaddr(address);
    CHECK(too_long.error() == std::errc::filename_too_long);
    CHECK(too_long.error().detail() == "the path has 108 bytes, 107 fit into a unix socket's address");
    CHECK(endpoint::parse(long_path.to_string()).error() == std::errc::filename_too_long);
    CHECK(endpoint::unix_path("/" + std::string(106, 'x')).to_sockaddr(address));
}

TEST_CASE("endpoints compare by kind, address, zone and port") {
    CHECK(endpoint("127.0.0.1", 80) != endpoint("127.0.0.1", 81));
    CHECK(endpoint("127.0.0.1", 80) != endpoint("::ffff:127.0.0.1", 80));
    CHECK(endpoint("fe80::1%1", 80) != endpoint("fe80::1", 80));
    CHECK(endpoint("name", 80) == endpoint("name", 80));
    CHECK(endpoint::unix_path("127.0.0.1") != endpoint("127.0.0.1", 0));
}
