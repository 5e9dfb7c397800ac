// OpenSSL's randomness from the world's seed, so that a handshake has the same bytes, and thereby the same
// sizes, in every repetition. For the life of the object, for the whole process.

#pragma once

#include "choices.h"

namespace parley::sim::detail {

class tls_randomness {
public:
    explicit tls_randomness(choices &from);
    ~tls_randomness();
    tls_randomness(const tls_randomness &) = delete;
    tls_randomness &operator=(const tls_randomness &) = delete;

private:
    const void *before_;
};

} // namespace parley::sim::detail
