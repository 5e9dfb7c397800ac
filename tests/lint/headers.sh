#!/usr/bin/env bash
# Every public header compiles alone, and sees no other room than it may:
# headers.sh BUILD_DIR [COMPILER]. Last line: N passed, N failed.
set -u
tree=$(cd "$1" && pwd) || exit 1
cxx=${2:-g++}
cd "$(dirname "$0")/../.." || exit 1
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
passed=0 failed=0

# alone LANGUAGE HEADER FLAG...: an empty source that includes just this header.
alone() {
    local language=$1 header=$2 compiler=$cxx
    shift 2
    [[ $language == c ]] && compiler=${cxx/++/cc} && compiler=${compiler/clangcc/clang}
    if printf '#include <%s>\nextern int not_empty;\n' "$header" |
        "$compiler" "$@" "${warnings[@]}" -fsyntax-only -x "$language" - 2>/tmp/header.$$; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED <$header> as $language"
        head -n 15 /tmp/header.$$
    fi
    rm -f /tmp/header.$$
}

while IFS= read -r header; do
    case $header in
    */detail/*) ;; # parts of the headers that include them
    parley/core/*) alone c++ "$header" -std=c++20 -I "$tree/sees/parley_core" ;;
    parley/protocol/*) alone c++ "$header" -std=c++20 -I "$tree/sees/parley_protocol" ;;
    *) alone c++ "$header" -std=c++20 -I include -I "$tree/include" ;;
    esac
done < <(cd include && find parley -name '*.h' -o -name '*.hpp' | sort)
# Classic code uses these from C as well.
for header in list.h rbtree.h; do
    alone c "$header" -std=gnu11 -I include/parley/core
done
# The view that the core is compiled with hides parley's coroutine layer, but not the standard library's.
if grep -rnE 'include *<coroutine>' core include/parley/core; then
    echo "FAILED the core knows of coroutines"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
((failed == 0))
