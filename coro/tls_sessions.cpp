// What a client's context remembers of its targets: of each the last session that a server offered. The
// stored copy is touched under the lock alone; a connection gets a copy of that, since OpenSSL changes
// sessions that are in use.

#include "tls_parts.hpp"

#include <list>
#include <new>
#include <unordered_map>
#include <utility>

#include <parley/core/Sync.h>

namespace parley::inline PARLEY_ABI {
namespace tls::detail {

namespace {

class session_store {
public:
    void put(const std::string &key, session_ptr session) {
        sync::lock_guard<sync::mutex> lock(mutex_);
        if (auto known = index_.find(key); known != index_.end()) {
            known->second->session = std::move(session);
            newest_first_.splice(newest_first_.begin(), newest_first_, known->second);
            return;
        }
        if (index_.size() == most) {
            index_.erase(newest_first_.back().key);
            newest_first_.pop_back();
        }
        newest_first_.push_front({key, std::move(session)});
        index_[key] = newest_first_.begin();
    }

    session_ptr copy(const std::string &key) {
        sync::lock_guard<sync::mutex> lock(mutex_);
        auto known = index_.find(key);
        if (known == index_.end())
            return nullptr;
        newest_first_.splice(newest_first_.begin(), newest_first_, known->second);
        return session_ptr(SSL_SESSION_dup(known->second->session.get()));
    }

private:
    static constexpr std::size_t most = 256;
    struct one {
        std::string key;
        session_ptr session;
    };
    sync::mutex mutex_;
    std::list<one> newest_first_;
    std::unordered_map<std::string, std::list<one>::iterator> index_;
};

void free_store(void *, void *store, CRYPTO_EX_DATA *, int, long, void *) {
    delete static_cast<session_store *>(store);
}

int store_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free_store);
    return index;
}

session_store *store_of(const SSL *ssl) {
    return static_cast<session_store *>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), store_index()));
}

// 0: OpenSSL keeps its reference.
int session_offered(SSL *ssl, SSL_SESSION *session) {
    session_store *store = store_of(ssl);
    const notes *kept = notes_of(ssl);
    if (!store || !kept || kept->session_key.empty() || SSL_SESSION_is_resumable(session) != 1)
        return 0;
    try {
        if (session_ptr copy(SSL_SESSION_dup(session)); copy)
            store->put(kept->session_key, std::move(copy));
    } catch (const std::bad_alloc &) {
        // Then the next handshake is a whole one.
    }
    return 0;
}

} // namespace

bool remember_sessions(SSL_CTX *ctx) {
    auto store = std::make_unique<session_store>();
    if (SSL_CTX_set_ex_data(ctx, store_index(), store.get()) != 1)
        return false;
    static_cast<void>(store.release());
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, session_offered);
    return true;
}

void continue_session(SSL *ssl, const std::string &key) noexcept {
    session_store *store = store_of(ssl);
    if (!store)
        return;
    if (const session_ptr known = store->copy(key))
        SSL_set_session(ssl, known.get());
}

} // namespace tls::detail
} // namespace parley::inline PARLEY_ABI
