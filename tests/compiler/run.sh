#!/usr/bin/env bash
# Builds and runs the compiler canaries: run.sh [--full] [PATTERN]. Last line: N passed, N failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
jobs=${PARLEY_JOBS:-$(nproc)}

# canary SOURCE COMPILER FLAGS: prints one line, "ok" or what went wrong.
canary() {
    local name work object flags=$3 libs=() ccache=()
    name=$(basename "$1" .cpp)
    work=$(mktemp -d)
    object=$work/$name.o
    [[ $name == 12_* ]] && flags+=" -foptimize-sibling-calls"
    [[ $name == *fiber* ]] && libs=(-lboost_context)
    command -v ccache >/dev/null && ccache=(ccache)
    # shellcheck disable=SC2086
    if ! timeout 120 "${ccache[@]}" "$2" -std=c++20 -g $flags -c "$1" -o "$object" >"$work/log" 2>&1 ||
        ! "$2" $flags "$object" -o "$work/run" -pthread "${libs[@]}" >>"$work/log" 2>&1; then
        echo "FAILED $name, $2 $3: does not build"
        tail -n 20 "$work/log"
    elif ! ASAN_OPTIONS=detect_stack_use_after_return=0 timeout 60 "$work/run" >"$work/log" 2>&1; then
        echo "FAILED $name, $2 $3: does not do what it should"
        tail -n 20 "$work/log"
    else
        echo "ok $name, $2 $3"
    fi
    rm -rf "$work"
}
if [[ ${1-} == --one ]]; then
    shift
    canary "$@"
    exit
fi

variants=("g++|-O0" "g++|-O2" "clang++-19|-O2")
sanitized=()
if [[ ${1-} == --full ]]; then
    shift
    variants+=("clang++-19|-O0")
    sanitized=("g++|-O0 -fsanitize=address,undefined" "g++|-O2 -fsanitize=address,undefined"
        "clang++-19|-O2 -fsanitize=address,undefined")
fi
pattern=${1-}

results=$(
    for source in "$here"/[0-9]*.cpp; do
        [[ $(basename "$source") == *"$pattern"* ]] || continue
        for variant in "${variants[@]}" "${sanitized[@]}"; do
            [[ $variant == *sanitize* && $source == */12_* ]] && continue
            printf '%s\0%s\0%s\0' "$source" "${variant%%|*}" "${variant#*|}"
        done
    done | xargs -0 -r -n 3 -P "$jobs" "$0" --one
)
passed=$(grep -c '^ok ' <<<"$results")
failed=$(grep -c '^FAILED ' <<<"$results")
grep -v '^ok ' <<<"$results"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
