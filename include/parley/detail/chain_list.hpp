// Who began a chain and is told of its end; and the list in which such an owner keeps its chains.

#pragma once

#include <coroutine>
#include <string>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

class loop;

namespace detail {

class branch;
class context;
class excursion;
class record;
struct loop_access;

class chain_owner {
public:
    // The first task of a chain has come to its end, and nothing of it is running. The owner destroys its
    // frame now or later. On the chain's loop, on a flat stack: called by the loop, never inside the task.
    virtual void chain_done(record &first) noexcept = 0;

    // What the chain is for, to be read by people: "handler of 127.0.0.1:7000". On the chain's loop.
    [[nodiscard]] virtual std::string purpose() const { return {}; }
    // The descriptor that the chain works for; -1 for none.
    [[nodiscard]] virtual int descriptor() const noexcept { return -1; }

    chain_owner(const chain_owner &) = delete;
    chain_owner &operator=(const chain_owner &) = delete;

protected:
    chain_owner() = default;
    ~chain_owner() = default;
};

// A doubly linked list of the first tasks of chains, linked through their records.
class chain_list {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] record *first() const noexcept { return first_; }
    [[nodiscard]] static record *next(const record &chain) noexcept;
    void push_back(record &chain) noexcept;
    void remove(record &chain) noexcept;

private:
    record *first_ = nullptr;
    record *last_ = nullptr;
};

// Chains that hang below no other task of their loop; while there are any they are listed in the loop.
class chain_source {
public:
    explicit chain_source() noexcept = default;
    chain_source(const chain_source &) = delete;
    chain_source &operator=(const chain_source &) = delete;

    void push_back(parley::loop &home, record &chain) noexcept;
    void remove(parley::loop &home, record &chain) noexcept;
    [[nodiscard]] const chain_list &chains() const noexcept { return chains_; }
    [[nodiscard]] const chain_source *next() const noexcept { return next_; }

private:
    chain_list chains_;
    chain_source *next_ = nullptr;
    chain_source *previous_ = nullptr;
};

// The chains that a runtime began on one loop.
class root_list final : public chain_owner {
public:
    explicit root_list(parley::loop &home) noexcept : home_(home) {}

    // Any thread: begins the first task of a chain. False when the loop has ended; then nothing has happened.
    [[nodiscard]] bool begin(record &first) noexcept;
    // On the loop: cancels every chain, and every one that begins from now on.
    void stop() noexcept;

    void chain_done(record &first) noexcept override;
    [[nodiscard]] const chain_list &chains() const noexcept { return chains_; }

private:
    friend class context;

    void enter(record &first) noexcept;

    parley::loop &home_;
    chain_list chains_;
    bool stopping_ = false; // whatever begins now is told to stop at once
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
