// files: a handler that answers with the files of a directory.
//
//     routes.get("/static/{path...}", parley::http::files("/srv/www"));
//
// What the route's {path...} names, below the directory and nowhere else: a link that leads out of it is not there.
// Ranges (one at a time), conditional requests, HEAD; a directory is answered by its index, or a list of what is in it
// where that is asked for. Files are read on the threads of the runtime's file service, in pieces.

#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <parley/config.hpp>
#include <parley/http/router.hpp>

namespace parley::http::inline PARLEY_ABI {

// Each function changes one thing and returns the object.
class file_options {
public:
    file_options() = default;

    // The file that stands for a directory; "index.html" at first, empty for none.
    file_options &index(std::string name) {
        index_ = std::move(name);
        return *this;
    }
    // Whether a directory without an index is answered by a list of its entries, but those that begin with a dot; false
    // at first: 404.
    file_options &listing(bool yes = true) noexcept {
        listing_ = yes;
        return *this;
    }
    // Whether names that begin with a dot are there at all; false at first.
    file_options &hidden(bool yes = true) noexcept {
        hidden_ = yes;
        return *this;
    }
    // Sent as Cache-Control.
    file_options &cache_control(std::string value) {
        cache_ = std::move(value);
        return *this;
    }

private:
    friend struct file_sender;
    std::string index_ = "index.html";
    std::string cache_;
    bool listing_ = false;
    bool hidden_ = false;
};

// Throws std::filesystem::filesystem_error for a directory that is not there.
[[nodiscard]] handler files(const std::filesystem::path &directory, const file_options &options = {});

// By its extension; "application/octet-stream" for what is not known.
[[nodiscard]] std::string_view media_type(const std::filesystem::path &file);

} // namespace parley::http::inline PARLEY_ABI
