#!/bin/bash
# Garbage collection under the stock client: labels, leases, expiry by the clock, sync, what runs and what is mounted,
# prune beside pulls, what keeps a thing, and a daemon that dies in the middle of it.
. "$(dirname "$0")/../node.sh"
LEVEL=${LEVELS%% *}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
start_registry
for name in tiny other; do
	publish "$T/$name" "test/$name"
done
# The layers of tiny:lazy under another name.
"$BIN/contentctl" convert "oci:$T/tiny:latest" "$REGISTRY/test/tiny:again" >"$T/convert.log" 2>&1 || bail "$(cat "$T/convert.log")"

there() { ctl --json df | jq "[.[] | select(.kind == \"$1\") | .count] | add"; }
everything() { echo "$(there blobs) $(there index) $(there objects) $(there partial) $(there snapshots)"; }
has_content() { ctr_ content ls -q | grep -q "$1"; }
has_blob() { test -e "$CONTENTD/root/content/blobs/sha256/${1#sha256:}"; }
ingest() { printf '%s' "$1" | ctr_ content ingest "ref-$1" && printf 'sha256:%s' "$(printf '%s' "$1" | sha256sum | cut -d' ' -f1)" >"$T/digest"; }
soon() { date -u -d "+$1 seconds" +%Y-%m-%dT%H:%M:%SZ; }
gone() { ! "$@"; }
# Of the committed snapshots the one that no committed one stands on.
top_chain() { ctr_ snapshots ls | awk '$2 == "Committed" {name[$1] = 1} $3 == "Committed" {name[$1] = 1; child[$2] = 1} END {for (n in name) if (!(n in child)) print n}'; }
arm() { # NAME: contentd dies there
	: >"$T/failpoint"
	export CONTENTD_FAILPOINT=$1:$T/failpoint
}

start_contentd gc 'background = "off"'
check_eq "a new daemon has nothing" "$(everything)" "0 0 0 0 0"
check_eq "and nothing to collect" "$(ctl gc)" "nothing to collect"

# ---- labels ----
check "content without a reference" ingest loose
loose=$(cat "$T/digest")
check "is of no use" test "$(ctl gc --dry-run | grep -c "$loose")" -ge 1
check_match "and collected" "$(ctl gc)" "^content: 1 removed"
check "from the list" gone has_content "$loose"
check "and from the disk" gone has_blob "$loose"

# The stock client takes no lease for an ingest: labelled before the next run it stays.
hold_ingest() { # TEXT: sha256 in $T/digest, and the label gc.root on it
	ingest "$1" && ctr_ content label "$(cat "$T/digest")" containerd.io/gc.root=1
}
try() { "$@" || "$@"; }
check "content with the label gc.root" try hold_ingest rooted
rooted=$(cat "$T/digest")
check "another that it names" try hold_ingest named
named=$(cat "$T/digest")
check "by a label" ctr_ content label "$rooted" "containerd.io/gc.ref.content.x=$named"
check "the other loses its own" ctr_ content label "$named" containerd.io/gc.root=
check "gc" ctl gc
check "both stay" has_content "$named"
check_match "because" "$(ctl why "$named")" "^content .*/$rooted \(label containerd.io/gc.root\)"
check_match "of that" "$(ctl why "$named")" "label -> content .*/$named"
check_match "the beginning of a digest will do" "$(ctl why "${named:0:19}")" "label -> content .*/$named"
check_match "the file belongs to the record" "$(ctl why "$named")" "reference -> blob $named"
check_eq "as JSON" "$(ctl --json why "$named" | jq -r '[.[] | select(.thing.kind == "content") | .chain[] | .key] | join(" ")')" "$rooted $named"
check "without the label" ctr_ content label "$rooted" containerd.io/gc.root=
check "gc" ctl gc
check "both go" gone has_content "$named"
check_fails "and nobody knows why" ctl why "$named"
check_match "which is said" "$(ctl why "$named" 2>&1)" "nothing is called"

# ---- snapshots ----
check "an active snapshot" ctr_ snapshots prepare s1
check "a committed one" ctr_ snapshots commit S1 s1
check "one on it" ctr_ snapshots prepare s2 S1
check "gc" ctl gc
check_match "the stock client labels them as roots" "$(ctr_ snapshots ls)" "^s2 +S1"
check "snapshots rm" ctr_ snapshots rm s2
check "and its parent" ctr_ snapshots rm S1

# ---- leases ----
check "a pull" ctl pull "$REGISTRY/test/tiny:plain"
tiny=$(ctl images -q)
chain=$(top_chain)
# A file that a later entry of its layer replaces leaves an object that nothing names.
check "gc" ctl gc
check "dry run: nothing" test "$(ctl gc --dry-run)" = "nothing to collect"
check_match "why an image" "$(ctl why "$tiny")" "^image .*/$tiny \(image\)"
check_match "why a snapshot" "$(ctl why "$chain")" "label -> snapshot .*/overlayfs/$chain"
object=$(find "$CONTENTD/root/objects" -type f | head -n 1)
object=${object#"$CONTENTD/root/objects/"}
check_match "why an object" "$(ctl why "${object/\//}")" "reference -> index [0-9a-f]{64}"
check "images rm --sync" ctr_ images rm --sync "$tiny"
check_eq "everything is gone when it answers" "$(everything)" "0 0 0 0 0"
check_eq "also on disk" "$(find "$CONTENTD/root/objects" "$CONTENTD/root/content/blobs" "$CONTENTD/root/partial" -type f | wc -l)" 0

# ---- expiry, when nothing else happens ----
check "a pull" ctl pull "$REGISTRY/test/tiny:lazy"
tiny=$(ctl images -q)
check "the image expires in a moment" ctr_ images label "$tiny" "containerd.io/gc.expire=$(soon 4)"
check "it is here" test "$(ctl images -q)" = "$tiny"
expired() { test -z "$(ctl images -q)"; }
check "then it goes by itself" wait_for 15 expired
all_gone() { test "$(everything)" = "0 0 0 0 0"; }
check "and all that it led to" wait_for 15 all_gone

# ---- what runs, and what is mounted ----
check "a pull" ctl pull "$REGISTRY/test/tiny:lazy"
tiny=$(ctl images -q)
check "a container" sleeper keeps "$tiny"
check "its image goes" ctr_ images rm --sync "$tiny"
check "a prune" ctl gc
check_eq "it reads what nobody has read yet" "$(ctl exec keeps cat /app/hello | tail -n 1)" "echo hello from tiny"
check "large files, too" ctl exec keeps sha256sum /data/three-mib /data/two-mib
check_match "a container keeps its snapshot" "$(ctl why keeps)" "^container .*/keeps \(container\)"
check "the container goes" ctl rm --force keeps
check "gc" ctl gc
check_eq "and everything with it" "$(everything)" "0 0 0 0 0"

# ---- layers that are proven under a container ----
# A client has prepared a snapshot on a lazy image, and mounts it later. Meanwhile a pull downloads the same layers: the
# chain gets the indexes that were proven.
lower_of() { ctr_ snapshots mounts "$T/mnt" "$1" | grep -o 'lowerdir=[^ ,]*'; }
check "a lazy pull" ctl pull "$REGISTRY/test/tiny:lazy"
check "a snapshot on it" ctr_ snapshots prepare early "$(top_chain)"
before=$(lower_of early)
check "the same layers, downloaded" ctl pull --lazy=off "$REGISTRY/test/tiny:again"
check "another snapshot" ctr_ snapshots prepare late "$(top_chain)"
check "is made of other indexes" test "$(lower_of late)" != "$before"
check "the images go" ctl rmi "$REGISTRY/test/tiny:lazy" "$REGISTRY/test/tiny:again"
check "gc" ctl gc
check_eq "the first is mounted with what it was made on" "$(lower_of early)" "$before"
mkdir "$T/mnt"
check "it can be mounted" eval "$(ctr_ snapshots mounts "$T/mnt" early)"
check_eq "and read" "$(cat "$T/mnt/app/hello" | tail -n 1)" "echo hello from tiny"
check "where nobody has read yet, too" sha256sum "$T/mnt/data/three-mib" "$T/mnt/data/two-mib"
umount "$T/mnt"
check "snapshots rm" ctr_ snapshots rm early late
check "gc" ctl gc
check_eq "then nothing is left" "$(everything)" "0 0 0 0 0"

# The same beside an image: it leads to other indexes than when it was pulled, and those of before are not kept for it.
of_before() { ls "$CONTENTD/root/index" | grep -cFf "$T/indexes"; }
warnings() { grep -c ' warn contentd: ' "$T/gc.1.log"; }
warned=$(warnings)
check "a lazy pull" ctl pull "$REGISTRY/test/tiny:lazy"
ls "$CONTENTD/root/index" >"$T/indexes"
check "the same layers, downloaded" ctl pull --lazy=off "$REGISTRY/test/tiny:again"
check "gc" ctl gc
check_eq "the indexes of before are gone" "$(of_before)" 0
check_match "the first image runs" "$(ctl run --rm "$REGISTRY/test/tiny:lazy" 2>&1)" '^hello from tiny$'
check "the second goes" ctl rmi "$REGISTRY/test/tiny:again"
check "gc" ctl gc
check_match "the first one still runs" "$(ctl run --rm "$REGISTRY/test/tiny:lazy" 2>&1)" '^hello from tiny$'
check "it goes" ctl rmi "$REGISTRY/test/tiny:lazy"
check "gc" ctl gc
check_eq "nothing is left" "$(everything)" "0 0 0 0 0"
check_eq "nor a pin" "$(ls "$CONTENTD/root/pins")" ""
check_eq "and no collection has warned" "$(($(warnings) - warned))" 0

# ---- prune beside pulls ----
pull_loop() { # IMAGE [OPTION...]
	local i
	for i in 1 2 3 4; do
		ctl pull "${@:2}" "$REGISTRY/test/$1" || return 1
		ctl run --rm "$REGISTRY/test/$1" || return 1
		ctl rmi "$REGISTRY/test/$1" || return 1
	done
}
prune_loop() {
	until [ -e "$T/enough" ]; do ctl gc || return 1; done
}
prune_loop >"$T/prune.out" 2>&1 &
pruner=$!
pullers=()
# The third one proves the layers of the first, at any moment.
for image in tiny:lazy other:lazy "tiny:again --lazy=off"; do
	pull_loop $image >"$T/pull-${#pullers[@]}.out" 2>&1 &
	pullers+=($!)
done
failed=0
for pid in "${pullers[@]}"; do wait "$pid" || failed=$((failed + 1)); done
: >"$T/enough"
wait "$pruner"
check_eq "pruning fails no time" "$?" 0
check_eq "pulls beside it all succeed, and what they made runs" "$failed" 0
[ "$failed" = 0 ] || tail -n 3 "$T"/pull-*.out
check_eq "what comes out" "$(sort -u "$T"/pull-*.out | grep -c '^hello from tiny$')" 1
ctl gc >/dev/null
check_eq "nothing is left of it" "$(everything)" "0 0 0 0 0"
check_eq "no failed read" "$(info .contentfs.readErrors)" 0

# ---- a contentfs that is there and does not answer ----
retire_contentd
start_contentd silent 'background = "off"' 'contentfs_timeout_ms = 1000'
check "a pull" ctl pull "$REGISTRY/test/tiny:lazy"
# Nothing is unmounted meanwhile: that is the kernel's, and asks nobody.
worker=$(info .contentfs.workerPid)
kill -STOP "$worker"
go_on() { kill -CONT "$1" 2>/dev/null || true; }
defer go_on "$worker"
check "contentfs is stopped: an image goes" ctr_ images rm "$REGISTRY/test/tiny:lazy"
check_fails "a collection that is asked for fails" ctl gc
ctl gc >"$T/gc.out" 2>&1
check_match "and says why" "$(cat "$T/gc.out")" "contentfs does not answer"
check_match "as does the log, once" "$(grep -c ' error contentd: contentfs does not answer' "$T/silent.1.log")" '^1$'
check "what needs no contentfs goes on" ctr_ leases create --id waits
check_fails "status asks it, and fails" ctl info
check "contentd ends beside it" stop_contentd
kill -CONT "$worker"
restart_contentd
check "it goes on: the next collection does the work" ctl gc
check_eq "of all that is left" "$(everything)" "0 0 0 0 0"
check "and a pull is served" ctl pull "$REGISTRY/test/tiny:lazy"
kill -STOP "$worker"
check "stopped once more: an image goes" ctr_ images rm "$REGISTRY/test/tiny:lazy"
check_fails "a collection fails" ctl gc
kill -CONT "$worker"
check "it goes on: a later collection succeeds" wait_for 10 ctl gc
check_eq "and all is gone" "$(everything)" "0 0 0 0 0"
check_match "the log says that it is back" "$(cat "$T/silent.2.log")" 'contentfs answers again'

# ---- a daemon that dies while it collects ----
retire_contentd
start_contentd dying 'background = "off"' '[gc]' 'startup_delay_ms = 0'
stop_contentd
for point in gc-condemned gc-applied gc-synced gc-dropped gc-sweep; do
	arm "$point"
	restart_contentd
	unset CONTENTD_FAILPOINT
	ctl pull "$REGISTRY/test/tiny:plain" >/dev/null 2>&1
	ctl rmi "$(ctl images -q 2>/dev/null | head -n 1)" >/dev/null 2>&1
	died() { ! is_running "$CONTENTD_PID"; }
	check "$point: it dies there" wait_for 10 died
	check_fails "$point: and has told so" test -e "$T/failpoint"
	restart_contentd
	for image in $(ctl images -q); do ctl rmi "$image" >/dev/null 2>&1; done
	ctl gc >/dev/null
	check_eq "$point: the next one ends it" "$(everything)" "0 0 0 0 0"
	check "$point: and goes on" ctl pull "$REGISTRY/test/tiny:plain"
	check_match "$point: as ever" "$(ctl run --rm "$REGISTRY/test/tiny:plain" 2>&1)" '^hello from tiny$'
	check "$point: rmi" ctl rmi "$REGISTRY/test/tiny:plain"
	stop_contentd
done
restart_contentd
retire_contentd
check_eq "nothing is left of the daemon" "$(leftovers "$CONTENTD")" ""
finish
