// http1: HTTP/1.1 as a protocol of the library, with whole messages: for parley::client and parley::serve as they
// are, and for callbacks. http/client.hpp and http/server.hpp know more of HTTP: here the server closes the connection
// behind a request that is not keep_alive() itself, by an answer with "Connection: close", and says what an error()
// deserves.

#pragma once

#include <parley/http/request.hpp>
#include <parley/http/response.hpp>

namespace parley::http {

struct http1 {
    using request = http::request;
    using response = http::response;
};

} // namespace parley::http
