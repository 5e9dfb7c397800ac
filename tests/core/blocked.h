// Whether a thread is blocked in the kernel, so that a test need not guess how long that takes.

#pragma once

#include <stdio.h>
#include <sys/types.h>

#include <string>

namespace process {

// The number of the system call that the thread is blocked in; -1 when it is in none.
inline long blocked_in(pid_t process, pid_t thread) {
    std::string path = "/proc/" + std::to_string(process) + "/task/" + std::to_string(thread) + "/syscall";
    FILE *file = fopen(path.c_str(), "r");
    long number = -1;
    if (file != nullptr) {
        if (fscanf(file, "%ld", &number) != 1)
            number = -1;
        fclose(file);
    }
    return number;
}

} // namespace process
