// What the tests of timeouts and deadlines share. Only lower bounds are asserted: a loop's clock is read once
// per turn, so a deadline may be up to a turn early, and later at will.

#pragma once

#include "scripted.h"

namespace scripted {

using wire::Peer;

constexpr int soon = 40;  // a timeout under test
constexpr int later = 70; // surely behind it
constexpr int turn = 2;   // how early it may be
inline const std::string huge = std::string(size_t{8} << 20, 'x') + "\n";

inline void pass(int ms) {
    poll(nullptr, 0, ms);
}

// Reads a little now and then, until `over`.
template <class Condition>
void dribble(Peer &peer, Condition over) {
    while (!over()) {
        if (peer.readable_now())
            peer.read(500);
        pass(1);
    }
}

// Sends a byte now and then, until the other side has had enough.
inline void drip(Peer &peer) {
    while (peer.send("x"))
        pass(5);
}

} // namespace scripted
