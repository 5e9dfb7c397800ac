#!/usr/bin/env bash
# Uses parley the way other projects do: run.sh find_package|pkgconfig|add_subdirectory BUILD_DIR [CMAKE_ARGUMENT...].
# The first two install BUILD_DIR, which has been built, and then move what was installed, to see that it can be moved.
set -eu
way=$1
tree=$(cd "$2" && pwd)
shift 2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jobs=${PARLEY_JOBS:-$(nproc)}

if [[ $way != add_subdirectory ]]; then
    cmake --install "$tree" --prefix "$work/first" >/dev/null
    mv "$work/first" "$work/installed"
fi
case $way in
find_package)
    cmake -S "$here/find_package" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/installed" "$@"
    ;;
add_subdirectory)
    cmake -S "$here/add_subdirectory" -B "$work/build" -DCMAKE_BUILD_TYPE=Release "$@"
    ;;
pkgconfig)
    mkdir "$work/build"
    PKG_CONFIG_PATH=$(dirname "$(find "$work/installed" -name parley.pc)")
    export PKG_CONFIG_PATH
    LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH") make -C "$work/build" -f "$here/pkgconfig/Makefile"
    exit
    ;;
*)
    echo "run.sh does not know $way" >&2
    exit 2
    ;;
esac
cmake --build "$work/build" --parallel "$jobs"
ctest --test-dir "$work/build" --output-on-failure --no-tests=error
