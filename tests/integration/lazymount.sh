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

# mount_as TYPE SOURCE DIR OPTIONS: the plain system call; mount(8) would set up a loop device for an image.
mount_as() {
	python3 -I -S - "$@" <<-'END' || return
		import ctypes, os, sys

		kind, source, target, options = (os.fsencode(arg) for arg in sys.argv[1:])
		read_only = 0 if b"upperdir" in options else 1
		if ctypes.CDLL(None, use_errno=True).mount(source, target, kind, read_only, options):
		    sys.exit(os.strerror(ctypes.get_errno()))
	END
	defer eval "umount -l '$3' 2>/dev/null || true"
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

# A whole tree from a metadata image: names and attributes as the kernel reads them from it, and contents besides.
tree=$("$BUILD/unit/lazyfixture" tree "$ROOT" "$(cut -d' ' -f1 "$T/layer")") || bail "lazyfixture failed"
TREE=$STATE/lazy/.trees/$tree
mkdir "$T/erofs" "$T/upper" "$T/work" "$T/merged"
mount_as erofs "$ROOT/meta/$tree" "$T/erofs" "" || bail "cannot mount the image"
names() {
	(
		cd "$1" || exit
		find . -printf '%P %y %m %U %G %n %T@ %l\n' | sort
		find . -type f -printf '%P %s\n' | sort
		find . -type c -print0 | sort -z | xargs -0 stat -c '%n %t %T'
		find . ! -type l -print0 | sort -z | xargs -0 getfattr -hd -m '^(user|security)' 2>/dev/null
	)
}
# Its root hides 00 to ff by whiteouts, which only overlayfs should see.
names "$T/erofs" | grep -vE '^(\./)?[0-9a-f]{2} (c 0 0 0 |0 0$)' >"$T/names.kernel"
names "$TREE" >"$T/names.tree"
check_same "a tree has the names and attributes of its image" "$T/names.tree" "$T/names.kernel"
check_match "extended attributes among them" "$(cat "$T/names.tree")" 'user.one="1"'
sums "$T/expected.tree" >"$T/sums.tree"
in_tree() { (cd "$1" && sha256sum --quiet -c "$T/sums.tree"); }
check "and the contents of its layer" in_tree "$TREE"
check_eq "a tree that is not there" "$(stat "$STATE/lazy/.trees/$(printf '0%.0s' {1..64})" 2>&1 | grep -c 'No such file')" 1
mount_as overlay overlay "$T/merged" "lowerdir=$TREE,upperdir=$T/upper,workdir=$T/work,index=off,xino=on" ||
	bail "no overlay over a tree"
check "an overlay over it" in_tree "$T/merged"
check "devices work through the overlay" dd if=/dev/zero of="$T/merged/null" bs=10 count=1 conv=nocreat
check_match "set-user-ID works through the overlay" \
	"$(setpriv --reuid 65534 --clear-groups "$T/merged/bin/suid" 2>&1)" "uid=65534.* euid=0"
kill -KILL "$(worker_pid)"
echo 2 >/proc/sys/vm/drop_caches
check "all of it again from another worker" in_tree "$T/merged"
names "$TREE" >"$T/names.tree"
check_same "names too" "$T/names.tree" "$T/names.kernel"
umount "$T/merged"

# Kills. Each round has a fresh layer, so that reads need the network while nobody serves them.
layer=1
fresh_layer() {
	layer=$((layer + 1))
	rm -rf "$T/expected" "$T/expected.tree" && mkdir "$T/expected"
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

# Both killed, and somebody kept the descriptors.
take_over() {
	local readers status
	fresh_layer
	"$BUILD/unit/lazyfixture" read "$STATE/lazy" "$T/expected" 6 4 >"$T/readers.out" 2>"$T/readers.err" &
	readers=$!
	sleep 1
	start resumed "$BUILD/unit/lazyfixture" takeover "$(worker_pid)" "$(holder_pid)" \
		"$BIN/contentfs" --root "$ROOT" --state "$STATE" --background off --resume
	wait "$readers"
	status=$?
	sed 's/^/     /' "$T/readers.err"
	return $status
}
check "both killed under readers, and resumed by a third" take_over
check_match "by resuming" "$(cat "$T/resumed.log")" "resumes a mount"
check "and everything has its bytes" check_all
check_eq "one mount is left" "$(findmnt -rno TARGET | grep -c "^$STATE/lazy$")" 1
"$BIN/contentfs" --root "$ROOT" --state "$STATE" 2>"$T/second.log"
check_eq "a second one is refused" "$?" 3

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
