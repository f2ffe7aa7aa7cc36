# shellcheck shell=bash
# This contentd and the containerd that is installed, beside each other: roots of their own on the same disk (a folder below
# /var/tmp). To be sourced by a script of this folder, as root, with `here` (the folder) set. Then $OURS and $THEIRS are
# their sockets, $CONTENTD and $CONTAINERD their pids, `theirs COMMAND...` runs a program that came with that containerd.
# PEER=trixie or PEER=sid takes the containerd of that Debian (tests/peers.sh). All is cleaned up at the end. BUILD=DIR uses
# another build.
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
require containerd ctr
[ -x "$BIN/api_bench" ] || bail "$BIN/api_bench is not built"
[ "$(id -u)" -eq 0 ] || bail "the daemons need root"
T_FINISHED=1 # counts no assertions
PEER=${PEER:-}
theirs=()
[ -z "$PEER" ] || {
	theirs=("$SOURCE_DIR/tests/peers.sh" "$PEER")
	"${theirs[@]}" true || bail "no root of $PEER"
}
theirs() { "${theirs[@]}" "$@"; }

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
start containerd "${theirs[@]}" containerd --config "$T/c/config.toml"
CONTAINERD=$STARTED
wait_for 20 "$BIN/contentctl" --address "$OURS" info || start_failed contentd
wait_for 20 theirs ctr --address "$THEIRS" version || start_failed containerd
sleep 1

# What the numbers were measured on.
conditions() {
	printf 'load %s, %s CPUs, %s, %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" \
		"$(theirs containerd --version | cut -d' ' -f3)" "$(findmnt -no FSTYPE --target "$T")"
}
