#!/bin/bash
# The same commands of ctr against a real containerd and against contentd: output, exit codes, classes of errors and
# events must be equal, once identifiers and times are put aside. With this machine's ctr and containerd, and with those
# of the suites in $PEERS.
. "$(dirname "$0")/../lib.sh"
require containerd ctr runc jq umoci curl
share_mounts
SIDES="real ours"
NS=${T##*.}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
tar -C "$T/tiny" -cf "$T/tiny.tar" . || bail "tar failed"
umoci unpack --image "$T/tiny:latest" "$T/bundle" >"$T/umoci.log" 2>&1 || bail "$(cat "$T/umoci.log")"

start_registry
push_layout "$T/tiny" test/tiny:plain || bail "push failed"

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
		-e 's#[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}#UUID#g' -e "s#(mount.|copy-)(real|ours)#\1SIDE#g" \
		-e 's#\b[0-9]{6,}-[A-Za-z0-9_-]{4}#RANDOM#g' \
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

# Says whether the files of the two sides are equal.
compare() {
	local what=$1
	if cmp -s "$T/real" "$T/ours"; then
		t_pass "$what"
		return
	fi
	t_fail "$what"
	diff -u --label containerd --label contentd "$T/real" "$T/ours" | tail -n +3 | sed 's/^/     /' | head -n 40
	tail -n 3 "$T/real.stderr" "$T/ours.stderr" | sed 's/^/     /'
}

# both WHAT ARG...: a command that must work, twice. @SIDE@ in an argument becomes real or ours; INPUT is a file for its
# stdin, SILENT=1 leaves its output out, IGNORE the lines that match.
both() { twice works "$@"; }
# The same for one that must be refused, and for one that is refused or not.
refused() { twice fails "$@"; }
same() { twice any "$@"; }
twice() {
	local how=$1 what=$2 side
	shift 2
	for side in $SIDES; do
		run_on "$side" "${@//@SIDE@/$side}"
		[ -z "${SILENT:-}" ] || sed -i '$!d' "$T/$side"
		[ -z "${IGNORE:-}" ] || sed -i -E "/$IGNORE/d" "$T/$side"
	done
	if [ "$how" = any ] || [ "$how" = "$([ "$(tail -n 1 "$T/real")" = 'status 0' ] && echo works || echo fails)" ]; then
		compare "$what"
	else
		t_fail "$what: containerd says otherwise: $(tail -n 1 "$T/real.stderr")"
	fi
}

# block WHAT FUNCTION: what it prints with `c` as the client of one side after the other.
c() { client --address "$(socket "$SIDE")" --namespace "$NS" "$@"; }
block() {
	for SIDE in $SIDES; do
		"$2" 2>"$T/$SIDE.stderr" </dev/null | normalise >"$T/$SIDE"
	done
	check "$1: there is something to compare" test -s "$T/real"
	compare "$1"
}

# Whatever nothing refers to goes now, on both sides, and not at some other time.
collect() {
	local side
	for side in $SIDES; do
		client --address "$(socket "$side")" --namespace "$NS" leases create --id collector >/dev/null &&
			client --address "$(socket "$side")" --namespace "$NS" leases rm --sync collector >/dev/null ||
			bail "$side collects nothing"
	done
}

# ---- the command groups ----

HELLO=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
NOTHING=sha256:0000000000000000000000000000000000000000000000000000000000000000

namespaces() {
	both "a namespace" namespaces create one a=b c=d
	both "namespaces ls" namespaces ls
	refused "a namespace twice" namespaces create one
	refused "no identifier" namespaces create a--b
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
	both "content label" content label "$HELLO" containerd.io/gc.root=1
	INPUT=$T/hello both "again" content ingest greeting
	INPUT=$T/hello both "with its digest" content ingest --expected-digest "$HELLO" --expected-size 5 greeting
	INPUT=$T/else refused "with another digest" content ingest --expected-digest "$NOTHING" other
	both "what was written stays" content active
	INPUT=$T/else refused "with another size" content ingest --expected-size 5 sized
	INPUT=$T/else refused "with what is no digest" content ingest --expected-digest sha256:12 bad
	INPUT=$T/else refused "without a ref" content ingest ""
	both "content ls" content ls
	both "content ls -q" content ls -q
	both "content ls, filtered" content ls "digest==$HELLO"
	refused "content ls, with a bad filter" content ls "digest="
	both "content get" content get "$HELLO"
	refused "content get, of nothing" content get "$NOTHING"
	refused "content get, of what is no digest" content get sha256:12
	both "content label" content label "$HELLO" k=v other.key/x=1
	both "content ls" content ls
	both "content ls by a label" content ls 'labels."other.key/x"==1'
	both "content label, removed" content label "$HELLO" k=
	both "content ls" content ls -q
	refused "content label, of nothing" content label "$NOTHING" k=v
	refused "a label that is too long" content label "$HELLO" "k=$(printf '%05000d' 0)"
	both "content of another namespace" --namespace other content ls
	refused "content get there" --namespace other content get "$HELLO"
	both "content prune references" content prune references
	both "content rm" content rm "$HELLO" "$NOTHING"
	both "content ls" content ls -q
}

leases() {
	both "a lease" leases create --id l1 a=b
	refused "a lease twice" leases create --id l1
	both "leases ls" leases ls
	both "leases ls, filtered" leases ls 'labels.a==b'
	refused "leases ls, with a bad filter" leases ls 'id='
	both "a lease without a name" leases create --expires 1h k=v
	both "leases ls" leases ls -q
	both "leases rm" leases rm --sync l1
	refused "leases rm, again" leases rm l1
}

images() {
	both "images ls, of none" images ls
	both "images import" images import --no-unpack --base-name example.com/tiny "$T/tiny.tar"
	both "images ls" images ls
	both "images ls, filtered" images ls 'name~=tiny'
	both "images ls, filtered away" images ls 'name==none'
	refused "images ls, with a bad filter" images ls 'name='
	collect
	both "content ls, without the index that nothing refers to" content ls
	both "images check" images check
	both "images tag" images tag example.com/tiny:latest example.com/tiny:two
	# That goes through Transfer in 2.x, and is no mistake there.
	same "images tag, again" images tag example.com/tiny:latest example.com/tiny:two
	both "images tag, by force" images tag --force example.com/tiny:latest example.com/tiny:two
	refused "images tag, of nothing" images tag example.com/none:latest example.com/none:two
	both "images label" images label example.com/tiny:two k=v
	refused "images label, of nothing" images label example.com/none:two k=v
	both "images ls" images ls
	both "images export" images export "$T/@SIDE@.tar" example.com/tiny:latest
	check_eq "of the same things" "$(tar -tf "$T/ours.tar" | sort)" "$(tar -tf "$T/real.tar" | sort)"
	both "images rm" images rm example.com/tiny:two
	both "images rm, again" images rm example.com/tiny:two
	both "images ls -q" images ls -q
	refused "a namespace that is not empty" namespaces rm "$NS"
	both "images rm --sync" images rm --sync example.com/tiny:latest
	both "content ls: all is collected" content ls -q
}

# By the client that fetches and unpacks itself; newer ones leave that to the server unless they are told.
pulled() {
	local local=() side image=$REGISTRY/test/tiny:plain
	[ "$SUITE" = own ] || local=(--local)
	SILENT=1 both "images pull" images pull "${local[@]}" --plain-http "$image"
	both "images ls" images ls
	collect
	both "content ls" content ls
	both "snapshots ls" snapshots ls
	both "images check" images check
	mkdir "$T/mount.real" "$T/mount.ours"
	both "images mount" images mount "$image" "$T/mount.@SIDE@"
	# A hard link with other attributes than its file has changes them there; ours takes the first as umoci does.
	for side in $SIDES; do
		tree_list --no-dir-times "$T/mount.$side" | grep -v '/linked' >"$T/$side"
	done
	compare "the trees are the same"
	both "images unmount" images unmount --rm "$T/mount.@SIDE@"
	rmdir "$T/mount.real" "$T/mount.ours"
	both "snapshots ls" snapshots ls
	both "run of the image" run --rm --fifo-dir "$D/fifo" "$image" p1
	SILENT=1 both "images pull, of what is here" images pull "${local[@]}" --plain-http "$image"
	SILENT=1 refused "images pull, of nothing" images pull "${local[@]}" --plain-http "$REGISTRY/test/none:latest"
	both "images tag" images tag "$image" "$REGISTRY/test/copy-@SIDE@:latest"
	SILENT=1 both "images push" images push "${local[@]}" --plain-http "$REGISTRY/test/copy-@SIDE@:latest"
	check_eq "as the same manifest" "$(curl -s "http://$REGISTRY/v2/test/copy-ours/manifests/latest" | sha256sum)" \
		"$(curl -s "http://$REGISTRY/v2/test/copy-real/manifests/latest" | sha256sum)"
	both "images rm --sync" images rm --sync "$image" "$REGISTRY/test/copy-@SIDE@:latest"
	both "snapshots ls: all is collected" snapshots ls
	both "content ls: all is collected" content ls -q
}

snapshots() {
	both "snapshots ls, of none" snapshots ls
	both "prepare" snapshots prepare s1
	refused "a key twice" snapshots prepare s1
	refused "a parent that is not there" snapshots prepare s2 none
	refused "a parent that is not committed" snapshots prepare s2 s1
	both "mounts" snapshots mounts "$T/m" s1
	both "info" snapshots info s1
	both "commit" snapshots commit c1 s1
	refused "commit, of nothing" snapshots commit c2 s1
	refused "mounts of what is committed" snapshots mounts "$T/m" c1
	both "prepare on it" snapshots prepare s2 c1
	both "view of it" snapshots view v1 c1
	both "which the collector must leave alone" snapshots label v1 containerd.io/gc.root=1
	refused "commit of a view" snapshots commit c2 v1
	refused "commit under a name that is taken" snapshots commit c1 s2
	both "mounts, with a parent" snapshots mounts "$T/m" s2
	both "mounts of a view" snapshots mounts "$T/m" v1
	both "snapshots ls" snapshots ls
	both "snapshots tree" snapshots tree
	both "label" snapshots label c1 k=v
	both "info of it" snapshots info c1
	refused "rm, with children" snapshots rm c1
	both "usage" snapshots usage s2 v1
	both "rm" snapshots rm s2 v1 c1
	refused "rm, again" snapshots rm c1
	both "another snapshotter: its own keys" snapshots --snapshotter native prepare s1
	both "snapshots ls, of another snapshotter" snapshots --snapshotter native ls
	both "rm, of another snapshotter" snapshots --snapshotter native rm s1
	refused "no such snapshotter" snapshots --snapshotter none ls
	refused "info of nothing" snapshots info none
}

containers() {
	both "containers create" containers create --label k=v --rootfs "$T/bundle/rootfs" c1 /bin/true
	refused "containers create, again" containers create --rootfs "$T/bundle/rootfs" c1 /bin/true
	refused "no identifier" containers create --rootfs "$T/bundle/rootfs" a--b /bin/true
	both "containers ls" containers ls
	both "containers ls, filtered" containers ls 'labels.k==v'
	both "containers ls, filtered away" containers ls 'id==c2'
	refused "containers ls, with a bad filter" containers ls 'id='
	both "containers info" containers info c1
	refused "containers info of nothing" containers info none
	both "containers label" containers label c1 k= z=1
	both "containers info" containers info c1
	both "containers rm" containers rm c1
	refused "containers rm, again" containers rm c1
}

state_of() { c tasks ls | awk -v id="$1" '$1 == id {print $3}'; }
stopped() { [ "$(state_of "$1")" = STOPPED ]; }

# Both sides use the same control group: one after the other.
life_of_a_task() {
	c run -d --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t2 /bin/busybox sh -c \
		'trap "exit 5" TERM; while :; do sleep 0.05; done'
	echo "run -d: $?"
	c tasks ls | sed -E 's/ [0-9]+ / PID /'
	c tasks exec --fifo-dir "$D/fifo" --exec-id e1 t2 /bin/busybox echo inside
	c tasks exec --fifo-dir "$D/fifo" --exec-id e2 t2 /bin/busybox sh -c 'exit 9'
	echo "exec: $?"
	c tasks ps t2 | sed -E 's/^[0-9]+/PID/' | sed 2q
	c tasks pause t2 && state_of t2
	c tasks resume t2 && state_of t2
	c tasks metrics --format json t2 | grep -o '"usage_usec"\|"usage"' | sort -u
	c tasks rm t2
	echo "rm of one that runs: $?"
	c containers rm t2
	echo "rm of its container: $?"
	c tasks kill t2
	wait_for 10 stopped t2
	state_of t2
	c tasks rm t2
	echo "rm: $?"
	c containers rm t2
	c tasks ls
}

tasks() {
	both "run --rm" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /bin/busybox echo hello
	refused "run --rm, with its status" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /bin/busybox sh -c 'exit 7'
	refused "run --rm, of no program" run --rm --fifo-dir "$D/fifo" --rootfs "$T/bundle/rootfs" t1 /no/such/program
	both "tasks ls, of none" tasks ls
	block "the life of a task" life_of_a_task
	refused "tasks kill, of nothing" tasks kill none
	refused "tasks rm, of nothing" tasks rm none
	refused "tasks ps, of nothing" tasks ps none
	refused "tasks start, of nothing" tasks start none
	refused "tasks pause, of nothing" tasks pause none
	refused "tasks metrics, of nothing" tasks metrics none
}

# Plugins that only say how the reference is built inside.
INSIDE='sandbox-controllers|erofs|scheduler|native|bolt|linux|cgroups|restart|opt|-service$|io.containerd.(cri|internal|monitor|nri|ttrpc|tracing|warning|mount|image-verifier|sandbox|podsandbox|shim|metadata|service)'
plugins() { client --address "$(socket "$1")" plugins ls 2>/dev/null | awk 'NR > 1 {print $1, $2, $3, $4}' | sort; }

others() {
	plugins real | grep -vE "$INSIDE" >"$T/real.plugins"
	plugins ours >"$T/ours.plugins"
	check_eq "plugins ls: those that clients look for" "$(comm -23 "$T/real.plugins" "$T/ours.plugins")" ""
	check_match "version" "$(client --address "$(socket ours)" version 2>&1)" 'UUID: [0-9a-f-]{36}'
	refused "plugins ls, with a bad filter" plugins ls 'type='
	[ "$SUITE" != own ] || return
	both "info" info
	both "deprecations list" deprecations list
	both "sandboxes ls" sandboxes ls
	both "sandboxes rm, of nothing" sandboxes rm none
	[ "$SUITE" != trixie ] || return
	# RuntimeInfo {name: "its name"}; and what was on standard input.
	printf '#!/bin/sh\n[ "$*" = -info ] && cat >"%s/options" && printf "\\n\\010its name"\n' "$T" >"$T/shim"
	chmod +x "$T/shim"
	both "plugins inspect-runtime" plugins inspect-runtime --runtime "$T/shim"
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

# Without the time in front, what waiting for the first one said, and the ones that old versions do not have, what the
# collector removed (in some order) among them; of a mount's snapshot it is chance whether client or collector is first.
# Changes of namespaces were published in the caller's before 1.7, later in the changed one. 2.1 has index=off behind the
# directories, and ends the shim of a task that is deleted often before that has told of it. Before 2.1 a shim tells of it
# when it comes to it, on a busy machine after what its client did next: deletions of tasks are compared among themselves.
heard() {
	local not='/namespaces/.*listening|/content/create|ContentCreate|/snapshot/remove ."key":"(sha256:|/[^"]*/mount\.)'
	[ "$SUITE" != sid ] || not="$not|/tasks/delete "
	grep -vE "$not" "$T/$SUITE.$1.events.log" | normalise |
		sed -E 's#^[^/]* ([^ ]+ /)#\1#; s#^[^ ]+ (/namespaces/)#\1#; s#"(pid|PID)":[0-9]+,?##g; s#"xino=on",##
			s#"index=off",|,"index=off"##; s#(workdir=[^",]*),lowerdir=[^"]*#\1#; s#lowerdir=[^",]*#lowerdir#
			s#("upperdir=[^"]*","lowerdir"),("workdir=[^"]*")#\2,\1#; s#("exited_at":)\{[^}]*\}#\1#g' |
		awk '/ \/tasks\/delete / { deletes = deletes $0 "\n"; next } { print } END { printf "%s", deletes }'
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
	pulled
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
