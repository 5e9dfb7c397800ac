#include <parley/detail/session_error.hpp>

#include <openssl/x509_vfy.h>

#include <cerrno>
#include <cstdio>
#include <new>
#include <string>

#include <parley/core/Communicator.h>
#include <parley/tls.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

parley::stage stage_of(int cause, parley::stage otherwise) noexcept {
    switch (cause) {
    case CC_WAIT:
        return stage::pool_wait;
    case CC_CONNECT:
        return stage::connect;
    case CC_TLS:
        return stage::tls;
    case CC_SEND:
        return stage::send;
    case CC_FIRST_BYTE:
        return stage::first_byte;
    case CC_RECEIVE:
        return stage::receive;
    case CC_GAP:
        return stage::gap;
    case CC_IDLE:
        return stage::idle;
    case CC_STOP:
        return stage::shutdown;
    default:
        return otherwise;
    }
}

namespace {

std::error_code code_of(int error_number) noexcept {
    switch (error_number) {
    case ETIMEDOUT:
        return make_error_code(errc::timed_out);
    case EBADMSG:
        return make_error_code(errc::bad_message);
    case ECANCELED:
        return make_error_code(errc::closed); // nobody but this program cancels
    case ESHUTDOWN:
        return make_error_code(errc::stopping);
    default:
        return system_error_code(error_number);
    }
}

// A certificate that was refused says why by itself; "certificate verify failed" would not.
std::error_code tls_code(const CommSession &session) noexcept {
    if (session.get_verify_result() != X509_V_OK)
        return tls_verify_error(session.get_verify_result());
    if (session.get_ssl_error() != 0)
        return tls_error(session.get_ssl_error());
    return system_error_code(ECONNRESET); // the peer went away in the middle of a record
}

} // namespace

error errno_error(int error_number, parley::stage where, std::string_view peer,
                  std::chrono::nanoseconds elapsed) {
    return error(code_of(error_number), error_number == ESHUTDOWN ? stage::shutdown : where, peer, elapsed);
}

error session_error(const CommSession &session, int state, int error_number, parley::stage otherwise,
                    std::string_view peer, std::chrono::nanoseconds elapsed) {
    const int cause = session.get_cause();
    if (state == CS_STATE_STOPPED || cause == CC_STOP)
        return error(errc::stopping, stage::shutdown, peer, elapsed);
    if (error_number == 0)
        return error(errc::end_of_stream, stage_of(cause, otherwise), peer, elapsed);
    if (error_number < 0)
        return error(tls_code(session), stage_of(cause, stage::tls), peer, elapsed);
    if (cause == CC_TLS && session.get_verify_result() != X509_V_OK)
        return error(tls_code(session), stage::tls, peer, elapsed);
    if (error_number == ETIMEDOUT) // of the kernel, if without a limit
        return timed_out_error(stage_of(cause, otherwise), peer, elapsed,
                               std::chrono::milliseconds(session.get_limit()));
    return error(code_of(error_number), stage_of(cause, otherwise), peer, elapsed);
}

error tls_words(const CommSession &session, const ssl_st *ssl) noexcept {
    try {
        const std::string text =
            tls::explain_failure(ssl, session.get_ssl_error(), session.get_verify_result());
        return error(std::error_code(), stage::tls, {}, {}, text);
    } catch (const std::bad_alloc &) {
        return {}; // OpenSSL's own words have to do
    }
}

void add_tls_words(error &failure, const error &words) noexcept {
    if (!words.detail().empty() && failure.code().category() == tls_category())
        failure.set_detail(words.detail());
}

error timed_out_error(parley::stage where, std::string_view peer, std::chrono::nanoseconds elapsed,
                      std::chrono::nanoseconds limit) noexcept {
    char text[48] = "";
    if (limit.count() >= 0)
        std::snprintf(text, sizeof text, "limit %.10g s", static_cast<double>(limit.count()) / 1e9);
    return error(errc::timed_out, where, peer, elapsed, text);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
