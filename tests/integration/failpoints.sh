#!/bin/bash
# contentd or contentfs dies by kill -9 at a named place (base/failpoint.h) in the middle of a pull, a write, a commit, a
# collection. Afterwards: the same again works, everything can be deleted, the collector leaves nothing, and fsck finds
# nothing wrong. No disk or mount differs by level, so one is enough.
. "$(dirname "$0")/../node.sh"
LEVEL=${LEVELS%% *}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
PLAIN=$REGISTRY/test/tiny:plain
LAZY=$REGISTRY/test/tiny:lazy
head -c 3000000 /dev/urandom >"$T/blob"
BLOB=sha256:$(sha256sum <"$T/blob" | cut -d' ' -f1)
SHA_OF_DATA=$(umoci unpack --image "$T/tiny:latest" "$T/ref" >"$T/umoci.log" 2>&1 && sha256sum <"$T/ref/rootfs/data/three-mib" | cut -d' ' -f1)

# ---- what is done ----

pull_plain() { ctl pull "$PLAIN"; }
pull_lazy() { ctl pull "$LAZY"; }
ingest() { ctr_ content ingest --expected-digest "$BLOB" test-ref <"$T/blob"; }
snapshot() {
	ctr_ snapshots --snapshotter overlayfs prepare work >/dev/null &&
		echo text >"$(ctr_ snapshots --snapshotter overlayfs mounts /x work | grep -o "$CONTENTD[^ :,]*/fs" | head -n 1)/file" &&
		ctr_ snapshots --snapshotter overlayfs commit done work
}
# Collected is an image that was pulled before, with all that it had: rmi waits for it.
prepare_collect() { ctl pull "$PLAIN"; }
collect() { ctl rmi "$PLAIN"; }

# ---- and done again ----

again_pull_plain() { works "$PLAIN"; }
again_pull_lazy() { works "$LAZY"; }
works() {
	ctl pull "$1" >"$T/out" 2>&1 &&
		[ "$(ctl run --rm "$1" sha256sum /data/three-mib 2>>"$T/out" | cut -d' ' -f1)" = "$SHA_OF_DATA" ] &&
		ctl rmi "$1" || {
		cat "$T/out" >&2
		return 1
	}
}
again_ingest() {
	ctr_ content ls -q | grep -qx "$BLOB" || ingest || return 1
	ctr_ content get "$BLOB" | cmp - "$T/blob" && ctr_ content rm "$BLOB"
}
again_snapshot() {
	ctr_ snapshots --snapshotter overlayfs info done >/dev/null 2>&1 ||
		{ ctr_ snapshots --snapshotter overlayfs rm work 2>/dev/null; snapshot; } || return 1
	ctr_ snapshots --snapshotter overlayfs rm done
}
again_collect() { works "$PLAIN"; }

# What is there, as `df` counts it.
left() { ctl --json df | jq -c '[.[] | select(.count > 0) | "\(.kind) \(.count)"]'; }
ends_contentfs() {
	local pid
	pid=$(cat "$CONTENTD/state/contentfs.pid") && stop_pid "$pid"
}

# at PLACE ACTION
at() {
	local place=$1 action=$2 before nothing
	T_PREFIX="$place: "
	export CONTENTD_FAILPOINT=$place:$T/armed
	# What a client has written without a lease is the next collection's: that comes when this test says so.
	start_contentd "$place-$action" '[gc]' 'startup_delay_ms = 0' 'mutation_threshold = 0'
	nothing=$(left)
	! declare -F "prepare_$action" >/dev/null || "prepare_$action" >"$T/prepare.out" 2>&1 || bail "$(cat "$T/prepare.out")"
	before=$(left)
	touch "$T/armed"
	"$action" >"$T/action.out" 2>&1
	check_fails "$action comes by" test -e "$T/armed"
	rm -f "$T/armed"
	# contentfs is started again by itself, contentd by whoever runs it.
	case $place in
	object* | index* | pin* | sweep*) ;;
	*)
		wait "$CONTENTD_PID" 2>/dev/null
		restart_contentd
		;;
	esac
	check "again" "again_$action"
	check "gc" ctl gc
	[ "$action" != collect ] || before=$nothing
	check_eq "nothing is left that was not there" "$(left)" "$before"
	check_eq "nothing that could be collected" "$(ctl --json gc --dry-run | jq '[.[].count] | add // 0')" 0
	stop_contentd
	ends_contentfs
	check "fsck" ctl fsck --root "$CONTENTD/root" --state "$CONTENTD/state" --contents
	sweep "$CONTENTD"
}

for place in pull-opened pull-unpacked pull-snapshots pull-stored pull-records pull-image; do
	at "$place" pull_plain
done
for place in pull-opened pull-snapshots pull-records; do
	at "$place" pull_lazy
done
for place in objects-written object-adopted objects-adopted index-source index-points index-written pin pinned meta-written; do
	at "$place" pull_plain
done
for place in index-source index-points index-written pin pinned; do
	at "$place" pull_lazy
done
for place in content-moved content-published content-recorded; do
	at "$place" ingest
done
for place in snapshot-commit snapshot-committed; do
	at "$place" snapshot
done
for place in gc-condemned gc-applied gc-synced gc-dropped gc-sweep sweep-deleted index-removed; do
	at "$place" collect
done
finish
