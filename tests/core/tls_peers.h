// TLS for the tests of the core: certificates made on the spot, contexts that use them, a target and a line
// service whose init_ssl() a test replaces, and a blocking OpenSSL peer for the other end of the wire.

#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include <memory>
#include <string>
#include <string_view>

#include "peers.h"

namespace peers {

template <auto function>
struct Free {
    template <class T>
    void operator()(T *object) const {
        function(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;

struct Identity {
    Key key{EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")};
    Certificate certificate;
};

// A certificate for `name`, valid from now + from to now + to (seconds), signed by `issuer` or by itself.
inline Identity identity(const char *name, const Identity *issuer, bool authority = false, long from = -3600,
                         long to = 3600) {
    static std::atomic<long> serial{1};
    Identity made;
    made.certificate.reset(X509_new());
    X509 *cert = made.certificate.get();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), from);
    X509_gmtime_adj(X509_getm_notAfter(cert), to);
    X509_set_pubkey(cert, made.key.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char *>(name), -1, -1, 0);
    const Identity &signer = issuer != nullptr ? *issuer : made;
    X509_set_issuer_name(cert, X509_get_subject_name(signer.certificate.get()));
    auto extend = [&](int kind, const std::string &value) {
        X509V3_CTX context;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, signer.certificate.get(), cert, nullptr, nullptr, 0);
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
        X509_add_ext(cert, extension, -1);
        X509_EXTENSION_free(extension);
    };
    extend(NID_basic_constraints, authority ? "critical,CA:TRUE" : "CA:FALSE");
    extend(NID_subject_alt_name, std::string("DNS:") + name);
    X509_sign(cert, signer.key.get(), EVP_sha256());
    return made;
}

// Made once: the authority that everybody here trusts, and a good certificate of it.
inline const Identity &authority() {
    static Identity made = identity("parley test authority", nullptr, true);
    return made;
}
inline const Identity &good() {
    static Identity made = identity("good.test", &authority());
    return made;
}

inline Context server_context(const Identity &who = good()) {
    Context context(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_certificate(context.get(), who.certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), who.key.get());
    SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char *>("test"), 4);
    return context;
}
// Trusts the authority and verifies.
inline Context client_context() {
    Context context(SSL_CTX_new(TLS_client_method()));
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority().certificate.get());
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    return context;
}
inline void only_version(SSL_CTX *context, int version) {
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
}

class TlsTarget : public Target {
public:
    std::string name = "good.test";
    std::function<int(SSL *)> on_ssl; // after the name has been set

    TlsTarget(const Address &to, SSL_CTX *context, int handshake = -1, int response = -1)
        : Target(to, -1, response) {
        set_ssl(context, handshake);
    }

private:
    int init_ssl(SSL *ssl) override {
        SSL_set_tlsext_host_name(ssl, name.c_str());
        SSL_set1_host(ssl, name.c_str());
        return on_ssl ? on_ssl(ssl) : 0;
    }
};

class TlsLines : public Lines {
public:
    std::function<int(SSL *)> on_ssl;

    int start_tls(Communicator &comm, SSL_CTX *context, int handshake = -1, int response = -1) {
        communicator = &comm;
        Address at = loopback();
        if (init(at.get(), at.size, -1, response) < 0)
            return -1;
        set_ssl(context, handshake);
        return comm.bind(this);
    }

private:
    int init_ssl(SSL *ssl) override { return on_ssl ? on_ssl(ssl) : 0; }
};

// An Ask that keeps what TLS said.
class TlsAsk : public Ask {
public:
    unsigned long ssl_error = 0;
    long verify = -1;

    explicit TlsAsk(std::string text) : Ask(std::move(text)) {
        then = [this](Ask &) {
            ssl_error = get_ssl_error();
            verify = get_verify_result();
        };
    }
    // Minus an SSL_get_error() code.
    bool refused_by_tls() const { return state == CS_STATE_ERROR && error == -SSL_ERROR_SSL && handled == 1; }
    std::string failed_at; // the server name that the failed SSL had asked for, before handle()

private:
    void handle_tls_failure(const SSL *ssl) override {
        const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        if (handled == 0 && asked != nullptr && get_ssl_error() != 0)
            failed_at = asked;
    }
};

// The other end: blocking, with the guard of its socket.
class TlsPeer {
public:
    TlsPeer(Socket socket, SSL_CTX *context, bool client)
        : socket_(std::move(socket)), ssl_(SSL_new(context)) {
        signal(SIGPIPE, SIG_IGN); // SSL_write() raises it
        SSL_set_fd(ssl_.get(), socket_.fd());
        if (client)
            SSL_set_connect_state(ssl_.get());
        else
            SSL_set_accept_state(ssl_.get());
    }
    static TlsPeer connected(const Address &to, SSL_CTX *context) {
        return TlsPeer(Socket::connected(to), context, true);
    }

    bool handshake() {
        ERR_clear_error();
        return SSL_do_handshake(ssl_.get()) == 1;
    }
    bool send(std::string_view data) {
        ERR_clear_error();
        return SSL_write(ssl_.get(), data.data(), static_cast<int>(data.size())) ==
               static_cast<int>(data.size());
    }
    std::string receive(size_t n) {
        std::string data;
        char buffer[16384];
        while (data.size() < n) {
            ERR_clear_error();
            int got =
                SSL_read(ssl_.get(), buffer, static_cast<int>(std::min(sizeof buffer, n - data.size())));
            if (got <= 0) {
                end_ = SSL_get_error(ssl_.get(), got);
                break;
            }
            data.append(buffer, static_cast<size_t>(got));
        }
        return data;
    }
    std::string rest() { return receive(SIZE_MAX); }
    // What the last receive() ended with: SSL_ERROR_ZERO_RETURN is a close_notify.
    int end() const { return end_; }
    void close_notify() { SSL_shutdown(ssl_.get()); }

    SSL *ssl() { return ssl_.get(); }
    Socket &socket() { return socket_; }

private:
    Socket socket_;
    std::unique_ptr<SSL, Free<SSL_free>> ssl_;
    int end_ = 0;
};

} // namespace peers
