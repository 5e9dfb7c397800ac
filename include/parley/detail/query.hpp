// One look-up of a name on the Executor. It owns all that it needs, so whoever waits for it may leave at any
// time.

#pragma once

#include <vector>

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>
#include <parley/core/Executor.h>
#include <parley/endpoint.hpp>
#include <parley/loop.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class query;

class query_client {
public:
    // The answer; `q` ends when this returns. On the loop that asked.
    virtual void resolved(query &q) noexcept = 0;

protected:
    query_client() = default;
    ~query_client() = default;
};

class query final : private ExecSession, private CommNode {
public:
    // On `here`. The query deletes itself, after resolved(). nullptr: refused, with errno.
    static query *start(const endpoint &name, parley::loop &here, query_client &client) noexcept;
    // resolved() will not be called. On the loop that asked.
    void abandon() noexcept { client_ = nullptr; }

    result<std::vector<endpoint>> answer;

private:
    query(const endpoint &name, parley::loop &here, query_client &client);
    ~query() override = default;

    static void come_home(CommNode *node) noexcept;

    void execute() override;
    void handle(int state, int error) override;

    endpoint name_;
    parley::loop &home_;
    query_client *client_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
