// http::files: what is found and what is not, ranges, conditions, lists.

#include <parley/http/date.hpp>
#include <parley/http/files.hpp>
#include <parley/http/server.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include <sys/stat.h>

#include "net.hpp"

namespace fs = std::filesystem;
namespace http = parley::http;
using namespace net;
using parley::task;

namespace {

// A directory that goes with the test, and a server of it.
class site {
public:
    explicit site(const http::file_options &options = {}) : root(make_root()), rt(with_loops(1)) {
        fs::create_directories(root / "www/sub");
        write("www/page.html", "<p>page</p>");
        write("www/digits", "0123456789");
        write("www/a b&c.txt", "odd name");
        write("www/.secret", "hidden");
        write("www/empty.txt", "");
        write("outside.txt", "outside");
        write("www/sub/index.html", "the index");
        fs::create_directories(root / "www/bare");
        write("www/bare/one.txt", "1");
        fs::create_symlink(root / "outside.txt", root / "www/leak.txt");
        fs::create_symlink(root / "www/digits", root / "www/link");
        door.emplace(parley::endpoint("127.0.0.1", 0),
                     http::router().get("/{path...}", http::files(root / "www", options)));
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto opened = co_await door->listen();
            local = opened.value();
        }());
    }
    ~site() {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto closed = co_await door->close();
            CHECK(closed);
        }());
        fs::remove_all(root);
    }

    // The status and the body; the fields that are named, in between.
    std::string get(const std::string &path, const std::string &lines = "",
                    std::vector<std::string> named = {}, const std::string &method = "GET") {
        raw_peer peer(local);
        peer.send(method + " " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + lines + "\r\n");
        const std::string all = peer.recv_all();
        const std::size_t end = all.find("\r\n\r\n");
        std::string said = all.substr(9, 3);
        for (const std::string &name : named) {
            const std::size_t at = all.find("\r\n" + name + ": ");
            said += at < end ? " " + all.substr(at + name.size() + 4,
                                                all.find("\r\n", at + 2) - at - name.size() - 4)
                             : " -";
        }
        return said + " " + all.substr(end + 4);
    }
    void write(const std::string &name, const std::string &bytes) const {
        std::ofstream(root / name) << bytes;
    }

    const fs::path root;

private:
    static fs::path make_root() {
        std::string name = (fs::temp_directory_path() / "parley-files-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        return name;
    }
    parley::runtime rt;
    std::optional<http::server> door;
    parley::endpoint local;
};

} // namespace

TEST_CASE("files are found by their path, and nothing else is") {
    site www;
    CHECK(www.get("/page.html", "", {"Content-Type", "Content-Length", "Accept-Ranges"}) ==
          "200 text/html; charset=utf-8 11 bytes <p>page</p>");
    CHECK(www.get("/digits", "", {"Content-Type"}) == "200 application/octet-stream 0123456789");
    CHECK(www.get("/a%20b%26c.txt") == "200 odd name");
    CHECK(www.get("/empty.txt", "", {"Content-Length"}) == "200 0 ");
    CHECK(www.get("/link") == "200 0123456789");
    CHECK(www.get("/page.html", "", {"Content-Length"}, "HEAD") == "200 11 ");
    CHECK(www.get("/sub/") == "200 the index");
    CHECK(www.get("/sub", "", {"Location"}).starts_with("301 /sub/ "));
    for (const char *path :
         {"/nothing", "/.secret", "/leak.txt", "/../outside.txt", "/%2e%2e/outside.txt",
          "/sub/../../outside.txt", "/..%2foutside.txt", "//etc/passwd", "/page.html/", "/bare/", "/"})
        CHECK(www.get(path).starts_with("404 "));
}

TEST_CASE("ranges") {
    site www;
    const auto range = [&](const std::string &value) {
        return www.get("/digits", "Range: " + value + "\r\n", {"Content-Range", "Content-Length"});
    };
    CHECK(range("bytes=0-3") == "206 bytes 0-3/10 4 0123");
    CHECK(range("bytes=7-") == "206 bytes 7-9/10 3 789");
    CHECK(range("bytes=-2") == "206 bytes 8-9/10 2 89");
    CHECK(range("bytes=-100") == "206 bytes 0-9/10 10 0123456789");
    CHECK(range("bytes=5-100") == "206 bytes 5-9/10 5 56789");
    CHECK(range("bytes=10-") == "416 bytes */10 0 ");
    CHECK(range("bytes=-0") == "416 bytes */10 0 ");
    // What is no range of bytes, or more than one, is passed over.
    for (const char *value :
         {"bytes=3-1", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2", "bytes=0-1,3-4", "bytes=1"})
        CHECK(range(value) == "200 - 10 0123456789");
    CHECK(www.get("/empty.txt", "Range: bytes=0-\r\n").starts_with("416 "));
    CHECK(www.get("/digits", "Range: bytes=0-1\r\n", {"Content-Length"}, "HEAD") == "200 10 ");
}

TEST_CASE("conditions") {
    site www;
    const std::string head = www.get("/digits", "", {"ETag", "Last-Modified"}, "HEAD");
    const std::string tag = head.substr(4, head.find('"', 5) - 3);
    const std::string date = head.substr(head.find('"', 5) + 2, 29);
    REQUIRE(http::parse_date(date));
    const std::string before = http::to_date(*http::parse_date(date) - 1);
    const auto status = [&](const std::string &lines) {
        return www.get("/digits", lines + "\r\n").substr(0, 3);
    };
    CHECK(status("If-None-Match: " + tag) == "304");
    CHECK(status("If-None-Match: \"other\", W/" + tag) == "304");
    CHECK(status("If-None-Match: *") == "304");
    CHECK(status("If-None-Match: \"other\"") == "200");
    CHECK(status("If-Modified-Since: " + date) == "304");
    CHECK(status("If-Modified-Since: " + before) == "200");
    CHECK(status("If-Modified-Since: yesterday") == "200");
    CHECK(status("If-None-Match: \"other\"\r\nIf-Modified-Since: " + date) == "200"); // the tag decides
    CHECK(status("If-Match: " + tag) == "200");
    CHECK(status("If-Match: W/" + tag) == "412");
    CHECK(status("If-Match: \"other\"") == "412");
    CHECK(status("If-Unmodified-Since: " + date) == "200");
    CHECK(status("If-Unmodified-Since: " + before) == "412");
    CHECK(status("Range: bytes=0-0\r\nIf-Range: " + tag) == "206");
    CHECK(status("Range: bytes=0-0\r\nIf-Range: \"other\"") == "200");
    CHECK(status("Range: bytes=0-0\r\nIf-Range: " + date) == "206");
    CHECK(www.get("/digits", "If-None-Match: " + tag + "\r\n", {"ETag"}) == "304 " + tag + " ");
    www.write("www/digits", "changed");
    CHECK(status("If-None-Match: " + tag) == "200");
}

TEST_CASE("a list of what is in a directory, where that is wanted") {
    site www(http::file_options().listing().cache_control("max-age=60"));
    const std::string page = www.get("/", "", {"Content-Type"});
    CHECK(page.starts_with("200 text/html; charset=utf-8 <!doctype html>"));
    CHECK(page.find("<a href=\"./a%20b&c.txt\">a b&amp;c.txt</a> 8") != std::string::npos);
    CHECK(page.find("<a href=\"./sub/\">sub/</a>") != std::string::npos);
    CHECK(page.find("secret") == std::string::npos);
    CHECK(page.find("../") == std::string::npos);
    CHECK(www.get("/bare/").find("<a href=\"../\">../</a>") != std::string::npos);
    CHECK(www.get("/sub/", "", {"Cache-Control"}) == "200 max-age=60 the index");
    site all(http::file_options().hidden());
    CHECK(all.get("/.secret") == "200 hidden");
    CHECK_THROWS_AS(static_cast<void>(http::files("/no/such/directory")), fs::filesystem_error);
}
