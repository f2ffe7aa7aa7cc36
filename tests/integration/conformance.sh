#!/bin/bash
# The same commands of ctr against a real containerd and against contentd: output, exit codes, classes of errors and
# events must be equal, once identifiers and times are put aside. With this machine's ctr and containerd, and with those
# of the suites in $PEERS.
. "$(dirname "$0")/../lib.sh"
require containerd ctr runc jq umoci
share_mounts
SIDES="real ours"
NS=${T##*.}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
tar -C "$T/tiny" -cf "$T/tiny.tar" . || bail "tar failed"
umoci unpack --image "$T/tiny:latest" "$T/bundle" >"$T/umoci.log" 2>&1 || bail "$(cat "$T/umoci.log")"

# ---- two daemons ----

# client ARG...: ctr of the suite that is looked at; daemon NAME ARG...: its containerd, in the background.
client() {
	if [ "$SUITE" = own ]; then
		ctr "$@"
	else
		peer "$SUITE" ctr "$@"
	fi
}
daemon() {
	local name=$1
	shift
	if [ "$SUITE" = own ]; then
		start "$name" containerd "$@"
	else
		start "$name" "$SOURCE_DIR/tests/peers.sh" "$SUITE" containerd "$@"
	fi
}

socket() { echo "$D/$1/sock"; }
answers() { client --address "$(socket "$1")" version; }

start_daemons() {
	D=$T/$SUITE
	mkdir -p "$D/real" "$D/ours" "$D/fifo"
	cat >"$D/real/config.toml" <<-END
		version = 2
		root = "$D/real/root"
		state = "$D/real/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
			"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
			"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
			"io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
			"io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri"]
		[grpc]
		address = "$(socket real)"
		[ttrpc]
		address = "$(socket real).ttrpc"
	END
	cat >"$D/ours/config.toml" <<-END
		root = "$D/ours/root"
		state = "$D/ours/state"
		grpc.address = "$(socket ours)"
		log.level = "info"
	END
	defer sweep "$D"
	daemon "$SUITE.real" --config "$D/real/config.toml"
	REAL_PID=$STARTED
	start "$SUITE.ours" "$BIN/contentd" --config "$D/ours/config.toml"
	OURS_PID=$STARTED
	wait_for 30 answers real || start_failed "$SUITE.real"
	wait_for 30 answers ours || start_failed "$SUITE.ours"
}

# ---- one command, twice ----

# What differs between two runs of the same daemon: places, times, ages, random names, widths of columns, the order of
# lists of labels; and that our overlays have xino=on.
normalise() {
	sed -E -e "s#$D/(real|ours)(/root|/state)?#PLACE#g" -e 's#,xino=on##' -e "s#$D/fifo/[0-9]+/#FIFO/#g" \
		-e 's#PLACE/(io.containerd.runtime.v2.task|tasks)/#BUNDLES/#g' \
		-e 's#[^ =:"]*/snapshots/[0-9a-z]+/#SNAPSHOT/#g' \
		-e 's#[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+ ?(Z|\+[0-9:]+)( UTC)?#TIME#g' \
		-e 's#Less than a second|About (a|an) (minute|hour)|[0-9]+ (seconds?|minutes?|milliseconds?)#AGE#g' \
		-e 's#\b[0-9]+-[A-Za-z0-9_-]{4}\b#RANDOM#g' \
		-e 's#"?(pid|PID|started_at|exited_at)"?: ?"?[A-Za-z0-9:.-]+"?#\1#g' \
		-e 's#elapsed: *[0-9.]+ ?s.*#elapsed#' -e 's#[ \t]+# #g; s# $##' -e '/^$/d' |
		awk '{
			for (i = 1; i <= NF; i++) {
				n = split($i, part, ",")
				if (n < 2 || $i !~ /^[^{]*=/)
					continue
				for (j = 2; j <= n; j++) # a handful: insertion
					for (k = j; k > 1 && part[k] < part[k - 1]; k--) {
						swap = part[k]; part[k] = part[k - 1]; part[k - 1] = swap
					}
				line = part[1]
				for (j = 2; j <= n; j++)
					line = line "," part[j]
				$i = line
			}
			print
		}'
}

# The class that ends the message of an error: what a client acts upon.
class_of() {
	tail -n 1 "$1" | grep -oE '(not found|already exists|failed precondition|invalid argument|unavailable|not implemented|out of range|unknown|permission denied|canceled|data loss)$' ||
		echo "no class"
}

# One side's run: its normalised output in $T/$side.
run_on() {
	local side=$1 status
	shift
	if [ -n "${INPUT:-}" ]; then
		client --address "$(socket "$side")" --namespace "$NS" "$@" <"$INPUT" >"$T/stdout" 2>"$T/stderr"
	else
		client --address "$(socket "$side")" --namespace "$NS" "$@" </dev/null >"$T/stdout" 2>"$T/stderr"
	fi
	status=$?
	{
		normalise <"$T/stdout"
		[ "$status" = 0 ] || class_of "$T/stderr"
		echo "status $status"
	} >"$T/$side"
	cp "$T/stderr" "$T/$side.stderr"
}

# both WHAT ARG...: INPUT is a file for its stdin, SORT=1 puts lines in order, IGNORE leaves out lines that match.
both() {
	local what=$1 side
	shift
	for side in $SIDES; do
		run_on "$side" "$@"
		[ -z "${SORT:-}" ] || sort -o "$T/$side" "$T/$side"
		[ -z "${IGNORE:-}" ] || grep -vE "$IGNORE" "$T/$side" >"$T/kept"
		[ -z "${IGNORE:-}" ] || mv "$T/kept" "$T/$side"
	done
	if cmp -s "$T/real" "$T/ours"; then
		t_pass "$what"
	else
		t_fail "$what (ctr $*)"
		diff -u --label containerd --label contentd "$T/real" "$T/ours" | tail -n +3 | sed 's/^/     /' | head -n 40
		tail -n 3 "$T/real.stderr" "$T/ours.stderr" | sed 's/^/     /'
	fi
}

# ---- the command groups ----

HELLO=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
NOTHING=sha256:0000000000000000000000000000000000000000000000000000000000000000

namespaces() {
	both "a namespace" namespaces create one a=b c=d
	both "namespaces ls" namespaces ls
	both "a namespace twice" namespaces create one
	both "no identifier" namespaces create a--b
	both "labels" namespaces label one e=f
	both "labels that go" namespaces label one c=
	both "namespaces ls" namespaces ls
	both "a namespace that is not there" namespaces rm none
	both "namespaces rm" namespaces rm one
	both "namespaces ls -q" namespaces ls -q
}

content() {
	printf hello >"$T/hello"
	printf 'something else' >"$T/else"
	INPUT=$T/hello both "content ingest" content ingest greeting
	INPUT=$T/hello both "again" content ingest greeting
	INPUT=$T/hello both "with its digest" content ingest --expected-digest "$HELLO" --expected-size 5 greeting
	INPUT=$T/else both "with another digest" content ingest --expected-digest "$NOTHING" other
	both "what was written stays" content active
	INPUT=$T/else both "with another size" content ingest --expected-size 5 sized
	INPUT=$T/else both "with what is no digest" content ingest --expected-digest sha256:12 bad
	INPUT=$T/else both "without a ref" content ingest ""
	both "content ls" content ls
	both "content ls -q" content ls -q
	both "content ls, filtered" content ls "digest==$HELLO"
	both "content ls, with a bad filter" content ls "digest="
	both "content get" content get "$HELLO"
	both "content get, of nothing" content get "$NOTHING"
	both "content get, of what is no digest" content get sha256:12
	both "content label" content label "$HELLO" k=v other.key/x=1
	both "content ls" content ls
	both "content ls by a label" content ls 'labels."other.key/x"==1'
	both "content label, removed" content label "$HELLO" k=
	both "content ls" content ls -q
	both "content label, of nothing" content label "$NOTHING" k=v
	both "a label that is too long" content label "$HELLO" "k=$(printf '%05000d' 0)"
	both "content of another namespace" --namespace other content ls
	both "content get there" --namespace other content get "$HELLO"
	both "content rm" content rm "$HELLO" "$NOTHING"
	both "content ls" content ls -q
}

leases() {
	both "a lease" leases create --id l1 a=b
	both "a lease twice" leases create --id l1
	both "leases ls" leases ls
	both "leases ls, filtered" leases ls 'labels.a==b'
	both "leases ls, with a bad filter" leases ls 'id='
	both "a lease without a name" leases create --expires 1h k=v
	both "leases ls" leases ls -q
	both "leases rm" leases rm l1
	both "leases rm, again" leases rm l1
}

images() {
	both "images ls, of none" images ls
	both "images import" images import --no-unpack --base-name example.com/tiny "$T/tiny.tar"
	both "images ls" images ls
	both "images ls, filtered" images ls 'name~=tiny'
	both "images ls, filtered away" images ls 'name==none'
	both "images ls, with a bad filter" images ls 'name='
	IGNORE='gc.ref.content.m.0=' both "content ls, without the index that nothing refers to" content ls
	both "images check" images check
	both "images tag" images tag example.com/tiny:latest example.com/tiny:two
	both "images tag, again" images tag example.com/tiny:latest example.com/tiny:two
	both "images tag, of nothing" images tag example.com/none:latest example.com/none:two
	both "images label" images label example.com/tiny:two k=v
	both "images label, of nothing" images label example.com/none:two k=v
	both "images ls" images ls
	both "images rm" images rm example.com/tiny:two
	both "images rm, again" images rm example.com/tiny:two
	both "images ls -q" images ls -q
	both "a namespace that is not empty" namespaces rm "$NS"
}

snapshots() {
	both "snapshots ls, of none" snapshots ls
	both "prepare" snapshots prepare s1
	both "a key twice" snapshots prepare s1
	both "a parent that is not there" snapshots prepare s2 none
	both "a parent that is not committed" snapshots prepare s2 s1
	both "mounts" snapshots mounts "$T/m" s1
	both "info" snapshots info s1
	both "commit" snapshots commit c1 s1
	both "commit, of nothing" snapshots commit c2 s1
	both "mounts of what is committed" snapshots mounts "$T/m" c1
	both "prepare on it" snapshots prepare s2 c1
	both "view of it" snapshots view v1 c1
	both "commit of a view" snapshots commit c2 v1
	both "commit under a name that is taken" snapshots commit c1 s2
	both "mounts, with a parent" snapshots mounts "$T/m" s2
	both "mounts of a view" snapshots mounts "$T/m" v1
	both "snapshots ls" snapshots ls
	both "snapshots tree" snapshots tree
	both "label" snapshots label c1 k=v
	both "info of it" snapshots info c1
	both "rm, with children" snapshots rm c1
	both "usage" snapshots usage s2 v1
	both "rm" snapshots rm s2 v1 c1
	both "rm, again" snapshots rm c1
	both "another snapshotter" snapshots --snapshotter none ls
	both "info of nothing" snapshots info none
}

containers() {
	both "containers create" containers create --rootfs "$T/bundle/rootfs" --label k=v c1 /bin/true
	both "containers create, again" containers create --rootfs "$T/bundle/rootfs" c1 /bin/true
	both "no identifier" containers create --rootfs "$T/bundle/rootfs" a--b /bin/true
	both "containers ls" containers ls
	both "containers ls, filtered" containers ls 'labels.k==v'
	both "containers ls, filtered away" containers ls 'id==c2'
	both "containers ls, with a bad filter" containers ls 'id='
	both "containers info" containers info c1
	both "containers info of nothing" containers info none
	both "containers label" containers label c1 k= z=1
	both "containers info" containers info c1
	both "containers rm" containers rm c1
	both "containers rm, again" containers rm c1
}

# The tasks of both sides would share cgroups if they ran at the same time; they do not.
tasks() {
	both "run --rm" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /bin/busybox echo hello
	both "run --rm, with its status" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /bin/busybox sh -c 'exit 7'
	both "run --rm, of no program" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /no/such/program
	both "tasks ls, of none" tasks ls
	both "tasks kill, of nothing" tasks kill none
	both "tasks rm, of nothing" tasks rm none
	both "tasks ps, of nothing" tasks ps none
	both "tasks start, of nothing" tasks start none
	both "tasks pause, of nothing" tasks pause none
	both "tasks metrics, of nothing" tasks metrics none
}

# Plugins that only say how the reference is built inside.
INSIDE='sandbox-controllers|scheduler|native|bolt|linux|cgroups|restart|opt|-service$|io.containerd.(cri|internal|monitor|nri|ttrpc|tracing|warning|mount|image-verifier|sandbox|podsandbox|shim|metadata|service)'
plugins() { client --address "$(socket "$1")" plugins ls 2>/dev/null | awk 'NR > 1 {print $1, $2, $3, $4}' | sort; }

others() {
	plugins real | grep -vE "$INSIDE" >"$T/real.plugins"
	plugins ours >"$T/ours.plugins"
	check_eq "plugins ls: those that clients look for" "$(comm -23 "$T/real.plugins" "$T/ours.plugins")" ""
	check_match "version" "$(client --address "$(socket ours)" version 2>&1)" 'UUID: [0-9a-f-]{36}'
	both "plugins ls, with a bad filter" plugins ls 'type='
}

# ---- events ----

listen() {
	local side
	for side in $SIDES; do
		if [ "$SUITE" = own ]; then
			start "$SUITE.$side.events" ctr --address "$(socket "$side")" events
		else
			start "$SUITE.$side.events" "$SOURCE_DIR/tests/peers.sh" "$SUITE" ctr --address "$(socket "$side")" events
		fi
	done
	# A client that only listens says nothing when it is ready: something is done until it has heard of it.
	for side in $SIDES; do
		wait_for 20 eval 'client --address "$(socket "$side")" namespaces label listening x=$RANDOM; grep -q /namespaces/ "$T/$SUITE.$side.events.log"' ||
			bail "no events"
		client --address "$(socket "$side")" namespaces rm listening >/dev/null
	done
}

# Without the time in front, what waiting for the first one said, and the ones that old versions do not have. Changes of
# namespaces were published in the caller's before 1.7, later in the changed one.
heard() {
	grep -vE '/namespaces/.*listening|/content/create|ContentCreate' "$T/$SUITE.$1.events.log" | normalise |
		sed -E 's#^[^/]* ([^ ]+ /)#\1#; s#^[^ ]+ (/namespaces/)#\1#; s#"(pid|PID)":[0-9]+,?##g; s#("exited_at":)\{[^}]*\}#\1#g'
}
ended() { grep -q /namespaces/create.*the-end "$T/$SUITE.$1.events.log"; }

events() {
	local side
	for side in $SIDES; do
		client --address "$(socket "$side")" namespaces create the-end >/dev/null 2>&1
		check "events of $side are complete" wait_for 20 ended "$side"
		heard "$side" >"$T/$side.heard"
	done
	check_same "the events are the same" "$T/ours.heard" "$T/real.heard"
}

everything() {
	start_daemons
	listen
	namespaces
	content
	leases
	images
	snapshots
	containers
	tasks
	others
	events
	stop_pid "$OURS_PID"
	stop_pid "$REAL_PID"
	sweep "$D"
}

for SUITE in own $PEERS; do
	T_PREFIX="$SUITE: "
	everything
done
T_PREFIX=
finish
