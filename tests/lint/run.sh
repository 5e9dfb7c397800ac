#!/usr/bin/env bash
# await_lint over every file that awaits. Left out are the canaries, which show shapes and do not use them, and the
# mistakes that the compiler refuses.
set -u
cd "$(dirname "$0")/../.." || exit 1
mapfile -t files < <(find include core protocol coro tests samples bench tools docs \
    \( -path tests/compiler -o -path tests/lint -o -path tests/mistakes/refused.cpp \) -prune -o \
    -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.cc' -o -name '*.ipp' \) -print | sort |
    xargs -r grep -lE 'co_await|co_yield')
echo "${#files[@]} files that await"
((${#files[@]} == 0)) || exec python3 tests/lint/await_lint.py "${files[@]}"
