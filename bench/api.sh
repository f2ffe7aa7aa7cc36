#!/bin/bash
# Compares the API of this contentd with that of the containerd that is installed: latency and throughput of calls,
# the memory of the idle daemons, the time of a call from the command line.
#
#	sudo bench/api.sh [ARG...]        e.g. --op lease --clients 8 --seconds 1 --json: see build/bin/api_bench --help
#
# Both run beside each other with roots of their own on the same disk (a folder below /var/tmp) and take turns, round by
# round. All is cleaned up at the end. BUILD=DIR uses another build.
here=$(dirname "$(readlink -f "$0")")
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
require containerd ctr
[ -x "$BIN/api_bench" ] || bail "$BIN/api_bench is not built"
[ "$(id -u)" -eq 0 ] || bail "the daemons need root"
T_FINISHED=1 # counts no assertions

OURS=$T/d/contentd.sock THEIRS=$T/c/containerd.sock
mkdir "$T/d" "$T/c"
defer sweep "$T/d"
defer sweep "$T/c"
cat >"$T/c/config.toml" <<END
version = 2
root = "$T/c/root"
state = "$T/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
address = "$THEIRS"
[ttrpc]
address = "$THEIRS.ttrpc"
END
start contentd "$BIN/contentd" --root "$T/d/root" --state "$T/d/state" --address "$OURS"
CONTENTD=$STARTED
start containerd containerd --config "$T/c/config.toml"
CONTAINERD=$STARTED
wait_for 20 "$BIN/contentctl" --address "$OURS" info || start_failed contentd
wait_for 20 ctr --address "$THEIRS" version || start_failed containerd
sleep 1

# kB of memory that the process has for itself, and its share of what it has in common.
pss() { awk '/^Pss:/ {print $2}' "/proc/$1/smaps_rollup"; }
memory() { printf '%-34s contentd %6d kB   containerd %6d kB\n' "$1" "$(pss "$CONTENTD")" "$(pss "$CONTAINERD")"; }

printf 'load %s, %s CPUs, %s, %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(containerd --version | cut -d' ' -f3)" \
	"$(findmnt -no FSTYPE --target "$T")" >&2
memory "PSS, idle" >&2
for command in version images; do
	printf '\n%s\n' "$command" >&2
	"$BIN/api_bench" --exec --rounds 100 "contentctl=$BIN/contentctl --address $OURS $command" \
		"ctr=ctr --address $THEIRS ${command/images/images ls}" >&2 || exit 1
done
printf '\n' >&2
"$BIN/api_bench" "$@" "contentd=$OURS" "containerd=$THEIRS" || exit 1
memory "PSS after that" >&2
sleep 15
memory "PSS 15 s later" >&2
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
