#!/usr/bin/env bash
# A fresh Debian 12 with g++, cmake and git, in a chroot: ./parley must find out what is missing, say so to a user, install
# it as root, and run; with Debian's default Boost and with the other one. Needs root, debootstrap and the network.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
mirror=${1:-http://deb.debian.org/debian}
root=$(mktemp -d)
chmod 755 "$root" # a user is to work in it
finish() {
    mountpoint -q "$root/proc" && umount "$root/proc"
    rm -rf --one-file-system "$root"
}
trap finish EXIT

debootstrap --variant=minbase --include=g++,cmake,git,ca-certificates bookworm "$root" "$mirror" >/dev/null
mount -t proc proc "$root/proc"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"

mkdir "$root/parley"
(cd "$top" && git ls-files -co --exclude-standard -z | tar --null -T - --ignore-failed-read -cf -) | tar -xf - -C "$root/parley"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CI=true sh -c "cd /parley && $1" </dev/null; }

inside 'useradd -m somebody && chown -R somebody: .'
inside 'su somebody -c "./parley demo"' 2>"$root/said" && status=0 || status=$?
cat "$root/said"
[[ $status == 3 ]]
grep -qx 'apt-get install -y --no-install-recommends .*libssl-dev.*' "$root/said"

inside './parley demo'
inside 'dpkg -s libboost-context1.74-dev >/dev/null'
started=$(date +%s%N)
inside './parley --version' || true # whatever the program makes of it, the script has to be quick
milliseconds=$((($(date +%s%N) - started) / 1000000))
echo "a second start: $milliseconds ms"
((milliseconds < 500))

# Somebody has the headers of the other Boost: that one is completed, not replaced.
inside 'apt-get remove -y libboost1.74-dev && apt-get autoremove -y &&
    apt-get install -y --no-install-recommends libboost1.81-dev && rm -rf build' >/dev/null 2>&1
inside './parley demo'
inside 'dpkg -s libboost-context1.81-dev >/dev/null'
