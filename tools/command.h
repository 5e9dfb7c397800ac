// What the program `parley` can do: one row of the table in main.cpp for each command.

#pragma once

#include <span>
#include <string_view>

// What a command returns, and the program ends with. 128 + N: ended by signal N.
enum exit_status : int {
    done = 0,
    failed = 1,         // it ran, and what it checks is not so
    not_understood = 2, // arguments
    missing = 3         // something that it needs is not to be had here
};

using arguments = std::span<const std::string_view>; // what follows the command's name

int demo(arguments given);
int serve(arguments given);
