#!/bin/bash
# The data plane alone: contentfs serves objects of a layer whose blob is in a real registry, through its mount, while
# its processes are killed and the registry comes and goes.
. "$(dirname "$0")/../lib.sh"
require docker-registry curl jq
for program in bin/contentfs bin/netproxy unit/lazyfixture; do
	[ -x "$BUILD/$program" ] || bail "$BUILD/$program is not built"
done
ROOT=$T/root STATE=$T/state

# contentfs ARG...: starts it in the background, and waits until it serves.
contentfs() {
	start contentfs "$BIN/contentfs" --root "$ROOT" --state "$STATE" --background off "$@"
	wait_for 20 grep -q ' serves ' "$T/contentfs.log" || start_failed contentfs
}

# The process of this state directory that has the argument; without one: the holder.
pid_with() {
	local pid
	for pid in $(pids_of "$STATE"); do
		case " $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" in
		*contentfs*" $1 "*) echo "$pid" && return ;;
		esac
	done
}
worker_pid() { pid_with --worker; }
holder_pid() {
	local pid
	for pid in $(pids_of "$STATE"); do
		case " $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" in
		*" --worker "* | *lazyfixture*) ;;
		*contentfs*) echo "$pid" && return ;;
		esac
	done
}

sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
# Every file, read as a whole through the mount.
check_all() {
	(cd "$STATE/lazy" && sha256sum --quiet -c "$T/sums") >"$T/check.out" 2>&1
}

start_registry
start_netproxy "$REGISTRY"
mkdir "$T/expected"
"$BUILD/unit/lazyfixture" make "$ROOT" "$NETPROXY/lazy" "$T/expected" 1 300 >"$T/layer" || bail "lazyfixture failed"
sums "$T/expected" >"$T/sums"

contentfs
check "every file has its bytes" check_all
check_eq "a name that nobody claims" "$(cat "$STATE/lazy/ab/$(printf '0%.0s' {1..62})" 2>&1 | grep -c 'No such file')" 1
check_eq "the mount is read-only" "$(touch "$STATE/lazy/x" 2>&1 | grep -c 'Read-only')" 1
check_eq "read-ahead of the mount" "$(cat "/sys/class/bdi/$(stat -c %Hd:%Ld "$STATE/lazy")/read_ahead_kb")" 1024
published() { (cd "$ROOT/objects" && sha256sum --quiet -c "$T/sums"); }
check "and all are published" wait_for 20 published
check_eq "no partial file is left" "$(find "$ROOT/partial" -type f | wc -l)" 0
before=$(netproxy_get body_bytes)
echo 3 >/proc/sys/vm/drop_caches
check "read again" check_all
check_eq "from the disk alone" "$(netproxy_get body_bytes)" "$before"

# Kills. Each round has a fresh layer, so that reads need the network while nobody serves them.
layer=1
fresh_layer() {
	layer=$((layer + 1))
	rm -rf "$T/expected" && mkdir "$T/expected"
	"$BUILD/unit/lazyfixture" make "$ROOT" "$NETPROXY/lazy" "$T/expected" "$layer" 300 >"$T/layer" || bail "lazyfixture failed"
	sums "$T/expected" >"$T/sums"
	# There is no client here that would tell the worker of the layer: a new worker loads what is in the store.
	kill -KILL "$(worker_pid)"
	wait_for 20 all_known || bail "the layer is not known to the next worker"
}
all_known() { [ -e "$STATE/lazy/$(head -n 1 "$T/sums" | cut -d' ' -f3 | cut -c3-)" ]; }

# kill_under_load WHO: 20 times, with readers running.
kill_under_load() {
	local who=$1 i pid readers
	fresh_layer
	"$BUILD/unit/lazyfixture" read "$STATE/lazy" "$T/expected" 14 4 >"$T/readers.out" 2>"$T/readers.err" &
	readers=$!
	for i in {1..20}; do
		sleep 0.$((RANDOM % 5 + 2))
		pid=$("${who}_pid")
		[ -n "$pid" ] && kill -KILL "$pid"
		# The next one of that kind must be there before it can be killed.
		wait_for 20 replaced "$who" "$pid" || bail "no new $who"
	done
	wait "$readers"
	local status=$?
	sed 's/^/     /' "$T/readers.err"
	return $status
}
replaced() { local now; now=$("${1}_pid"); [ -n "$now" ] && [ "$now" != "$2" ]; }

check "20 kills of the worker under readers" kill_under_load worker
check "and everything has its bytes" check_all
check "20 kills of the holder under readers" kill_under_load holder
check "and everything has its bytes" check_all
check_eq "one mount is left" "$(mounts_of "$STATE" | wc -l)" 1

# A worker that hangs.
pid=$(worker_pid)
kill -STOP "$pid"
check "a silent worker is replaced" wait_for 40 replaced worker "$pid"
check "and everything has its bytes" check_all

# Orderly end.
ended() { [ -z "$(pids_of "$STATE")" ]; }
kill -TERM "$(holder_pid)"
check "SIGTERM ends both" wait_for 20 ended
check_eq "nothing is left behind" "$(leftovers "$STATE")" ""

# All dead at once: the next start finds a dead mount and makes a new one.
contentfs
kill -KILL "$(holder_pid)" "$(worker_pid)"
wait_for 20 ended
contentfs
check "after the death of all, a start mounts anew" check_all
kill -TERM "$(holder_pid)"
wait_for 20 ended

# A source that is gone, and back.
rm -rf "$ROOT/objects" "$ROOT/partial"
contentfs --read-timeout-ms 2000
file=$(head -n 1 "$T/sums" | cut -d' ' -f3)
kill -STOP "$NETPROXY_PID"
check_match "a read without a source fails" "$(cat "$STATE/lazy/$file" 2>&1 >/dev/null)" "Input/output error"
check_match "and the log says why" "$(cat "$T/contentfs.log")" "image $NETPROXY/lazy, layer sha256:.*file /.*nothing came within 2000 ms"
kill -CONT "$NETPROXY_PID"
check "it works again when the source is back" wait_for 20 cmp "$STATE/lazy/$file" "$T/expected/$file"
check "and everything has its bytes" check_all
kill -TERM "$(holder_pid)"
wait_for 20 ended

# A registry whose copy is damaged: never a wrong byte.
rm -rf "$ROOT/objects" "$ROOT/partial"
blob=$(cut -d: -f2 "$T/layer")
data=$REGISTRY_DIR/docker/registry/v2/blobs/sha256/${blob:0:2}/$blob/data
cp "$data" "$T/blob.good"
size=$(stat -c %s "$data")
for at in $(seq 1000 200000 "$size"); do printf X | dd of="$data" bs=1 seek="$at" conv=notrunc status=none; done
contentfs
good=0 bad=0 wrong=0
while read -r sum name; do
	if cat "$STATE/lazy/$name" >"$T/out" 2>"$T/err"; then
		if [ "$(sha256sum <"$T/out" | cut -d' ' -f1)" = "$sum" ]; then good=$((good + 1)); else wrong=$((wrong + 1)); fi
	else
		grep -q 'Input/output error' "$T/err" && bad=$((bad + 1))
	fi
done <"$T/sums"
note "damaged blob: $good files read, $bad refused"
check_eq "no file with wrong bytes" "$wrong" 0
check "damaged ones are refused" test "$bad" -gt 0
check "others are read" test "$good" -gt 0
check_match "and the log names the file" "$(cat "$T/contentfs.log")" "image $NETPROXY/lazy, layer sha256:.*, file /.*not come as the image promises"
cp "$T/blob.good" "$data"
check "with the right blob all is right" check_all
finish
