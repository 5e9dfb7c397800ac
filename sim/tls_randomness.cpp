// A RAND_METHOD is deprecated in OpenSSL 3, but a provider would have to be loaded into every context of the
// program, also into those that it makes itself.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "tls_randomness.h"

#include <openssl/rand.h>

namespace parley::sim::detail {

namespace {

choices *source = nullptr;

int give_bytes(unsigned char *out, int size) {
    if (size < 0)
        return 0;
    source->bytes(out, static_cast<std::size_t>(size));
    return 1;
}

int is_ready() {
    return 1;
}

const RAND_METHOD method = {nullptr, give_bytes, nullptr, nullptr, give_bytes, is_ready};

} // namespace

tls_randomness::tls_randomness(choices &from) : before_(RAND_get_rand_method()) {
    source = &from;
    RAND_set_rand_method(&method);
}

tls_randomness::~tls_randomness() {
    RAND_set_rand_method(static_cast<const RAND_METHOD *>(before_));
    source = nullptr;
}

} // namespace parley::sim::detail
