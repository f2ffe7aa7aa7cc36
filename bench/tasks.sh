#!/bin/bash
# Compares how fast this contentd and the containerd that is installed make, start, wait for and delete containers, with the
# same shim (containerd-shim-runc-v2) and runc.
#
#	sudo bench/tasks.sh [ARG...]      e.g. --clients 4 --seconds 5 --rounds 2 --json: see build/bin/api_bench --help
#
# Both run beside each other and take turns, round by round: see daemons.sh. The containers run /bin/true in a directory
# that is bound, so neither images nor snapshots come in. BUILD=DIR uses another build.
here=$(dirname "$(readlink -f "$0")")
. "$here/daemons.sh"
require busybox containerd-shim-runc-v2 runc

rootfs=$T/rootfs
# What runc leaves of containerd's containers; contentd removes its own.
defer find /sys/fs/cgroup -depth -type d -path '*/bench' -exec rmdir {} +
mkdir -p "$rootfs"/{bin,proc,dev,sys,run,tmp}
cp "$(command -v busybox)" "$rootfs/bin/true"

conditions >&2
[ $# -gt 0 ] || set -- --clients 1 --clients 4
"$BIN/api_bench" --op task --rootfs "$rootfs" --seconds 5 "$@" "contentd=$OURS" "containerd=$THEIRS" || exit 1
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
