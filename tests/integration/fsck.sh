#!/bin/bash
# contentctl fsck: every kind of damage is made on a copy of a real root, found, repaired, and not there in a second run.
. "$(dirname "$0")/../lib.sh"
require ctr docker-registry jq umoci

D=$T/d
ADDRESS=$D/state/contentd.sock
ctl() { "$BIN/contentctl" --address "$ADDRESS" "$@"; }
stock() { ctr --address "$ADDRESS" "$@"; }
kvedit() { "$UNIT/kvedit" "$R/db" "$@"; }
UNIT=$BUILD/unit
[ -x "$UNIT/kvedit" ] || bail "$UNIT/kvedit is not built"
defer sweep "$D"

contentd() {
	start contentd "$BIN/contentd" --root "$1" --state "$D/state"
	CONTENTD=$STARTED
	wait_for 20 ctl info || bail "contentd does not serve: $(cat "$T/contentd.log")"
}
# Ends the daemon and contentfs: a repair wants to be alone.
stop_all() {
	kill -TERM "$CONTENTD"
	wait "$CONTENTD"
	kill "$(cat "$D/state/contentfs.pid")"
	wait_for 10 test ! -e "$D/state/contentfs.pid" || bail "contentfs does not end"
}

# ---- a root with all kinds of things ----
start_registry
make_tiny_image "$T/tiny" || bail "no tiny image"
push_layout "$T/tiny" tiny || bail "push failed"
"$BIN/contentctl" convert "oci:$T/tiny:latest" "oci:$T/lazy:latest" >"$T/convert.log" 2>&1 || bail "$(cat "$T/convert.log")"
push_layout "$T/lazy" lazy || bail "push failed"
PLAIN=$REGISTRY/tiny:latest LAZY=$REGISTRY/lazy:latest
mkdir -p "$D"
# Nothing comes in the background: some files are to stay partial.
# Nor does the collector come before something is deleted, as a pull does with its lease: what has no root is made first.
printf '[fetch]\nbackground = "off"\n[gc]\nstartup_delay_ms = 0\nmutation_threshold = 0\n' >"$T/config.toml"
start contentd "$BIN/contentd" --root "$D/root" --state "$D/state" --config "$T/config.toml"
CONTENTD=$STARTED
wait_for 20 ctl info || bail "contentd does not serve: $(cat "$T/contentd.log")"
HELLO=2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
printf hello | stock content ingest greeting || bail "no blob"
stock content label "sha256:$HELLO" containerd.io/gc.root=x >"$T/label" || bail "no label"
stock snapshots prepare loose && stock snapshots label loose containerd.io/gc.root=x || bail "no snapshot"
ctl pull "$LAZY" >"$T/pull.log" 2>&1 || bail "$(cat "$T/pull.log")"
ctl pull --lazy=off "$PLAIN" >"$T/pull.log" 2>&1 || bail "$(cat "$T/pull.log")"
stock leases create --id lease1 || bail "no lease"
stock containers create --snapshotter overlayfs "$LAZY" c1 || bail "no container"
check_fails "a daemon that runs is not checked" "$BIN/contentctl" fsck --root "$D/root" --state "$D/state"
check_match "it says why" "$("$BIN/contentctl" fsck --root "$D/root" --state "$D/state" 2>&1)" "another contentd, pid $CONTENTD, uses"
kill -TERM "$CONTENTD"
wait "$CONTENTD"
check "beside a contentfs it looks" "$BIN/contentctl" fsck --root "$D/root" --state "$D/state"
check_match "and repairs nothing" "$("$BIN/contentctl" fsck --repair --root "$D/root" --state "$D/state" 2>&1)" "contentfs serves $D/state: end it before"
kill "$(cat "$D/state/contentfs.pid")"
wait_for 10 test ! -e "$D/state/contentfs.pid" || bail "contentfs does not end"
R=$D/root
fsck() { "$BIN/contentctl" fsck --root "$R" --state "$D/state" "$@"; }
# What proofs leave beside indexes: gaps, also of a layer that was deleted under a job; the source of a false layer.
an_index=$(find "$R/index" -type f -name '*.source' | sort | head -n 1)
cp /dev/null "${an_index%.source}.gaps"
cp /dev/null "$R/index/$(printf '%064d' 11).gaps"
jq -c --arg have "sha256:$(printf '%064d' 12)" '.reference = "127.0.0.1:1/false" | .promised = $have | .diffId = $have | .ofBlob = true | .tree = "differs"' "$an_index" >"$R/index/$(printf '%064d' 13).source"
check "a good root" fsck --contents
check_match "of which much was looked at" "$(fsck)" "[1-9][0-9]* records, [1-9][0-9]* snapshots, [1-9][0-9]* blobs, [0-9]+ ingests, [1-9][0-9]* layer indexes, [1-9][0-9]* objects"
mv "$D/root" "$D/good"
kvedit_good() { "$UNIT/kvedit" "$D/good/db" "$@"; }

# Damages that do not touch each other are made together, on a fresh copy: each finding must be told, the repair must end
# well and tell it again, and a second run must find nothing.
WHATS=() MATCHES=()
fresh() {
	rm -rf "$D/root"
	cp -a "$D/good" "$D/root"
	WHATS=() MATCHES=()
}
# damage WHAT MATCH COMMAND...
damage() {
	WHATS+=("$1")
	MATCHES+=("$2")
	local what=$1
	shift 2
	"$@" || bail "$what: the damage could not be made"
}
# verify [ARG...]: of fsck
verify() {
	local output status count i
	output=$(fsck "$@")
	check_eq "$# more arguments: damage is found" "$?" 4
	for i in "${!WHATS[@]}"; do
		check_match "${WHATS[i]}" "$output" "${MATCHES[i]}.*; a repair: "
	done
	count=$(grep -c '; a repair: ' <<<"$output")
	output=$(fsck --repair "$@")
	status=$?
	check_eq "what a check tells, a repair does" "$(grep -c '; repaired: ' <<<"$output")" "$count"
	check_eq "all of it is repaired" "$status" 1
	for i in "${!WHATS[@]}"; do
		check_match "${WHATS[i]}: repaired" "$output" "${MATCHES[i]}.*; repaired: "
	done
	output=$(fsck "$@")
	check_eq "then nothing is wrong" "$?: $output" "0: $(grep 'nothing is wrong' <<<"$output")"
}
lost() { find "$R/lost+found/$1" -mindepth 1 -printf '%P\n' | sort | tr '\n' ' '; }
a_file() { find "$R/$1" -type f "${@:2}" | sort | head -n 1; }
zeros() { printf '%064d' "$1"; }
write() { mkdir -p "${1%/*}" && printf '%s' "$2" >"$1"; }
plain_index() { local source; source=$(grep -l '"[^"]*/tiny"' "$R"/index/*.source | head -n 1) && echo "${source%.source}"; }

LOOSE='snap/default%00overlayfs%00loose'
BLOBS=$R/content/blobs/sha256
loose_dir() { kvedit get "$LOOSE" | jq .id; }
other_index() {
	local one
	one=$(plain_index)
	cp "$one" "$R/index/$(zeros 5)" && cp "$one.source" "$R/index/$(zeros 5).source"
}
torn_index() { truncate -s 100 "$(plain_index)"; }
no_directory() { rm -r "$R/snapshots/$(loose_dir)"; }
# c1 was made on an index that is not there any more; its chain is whole.
other_lower() {
	local key
	key=$(kvedit list snap/ | grep '%00c1$') &&
		kvedit put "$key" "$(kvedit get "$key" | jq -c --arg first "$(zeros 8)" '.lower = $first + .lower[64:]')"
}
drop_container_snapshot() {
	local key mark
	key=$(kvedit list snap/ | grep '%00c1$') && mark=$(kvedit list snapchild/ | grep '%00c1$')
	kvedit del "$mark" && rm -rf "$R/snapshots/$(kvedit get "$key" | jq .id)" && kvedit del "$key"
}
manifest=$(jq -r '.manifests[0].digest' "$T/lazy/index.json")

fresh
damage "a blob that is gone" "content default/sha256:$HELLO: its blob is not here" rm "$BLOBS/$HELLO"
damage "a blob nobody knows" "blob $(zeros 7): no namespace knows it" write "$BLOBS/$(zeros 7)" x
damage "a file that is no blob" "blob notes.txt: is no blob" write "$BLOBS/notes.txt" x
damage "an ingest that says nothing" "ingest $(zeros 3): does not say what" mkdir "$R/content/ingest/$(zeros 3)"
damage "an index under another name" "index $(zeros 5): it is the index of another layer" other_index
damage "a source without an index" "index $(zeros 6).source: there is no index" write "$R/index/$(zeros 6).source" '{}'
damage "gaps of what is no index" "index x.gaps: is no name" write "$R/index/x.gaps" x
damage "a file that is no index" "index readme: is no name" write "$R/index/readme" x
damage "a file that is no object" "object aaxyz: is no name" write "$R/objects/aa/xyz" x
damage "a partial file of no layer" "partial $(zeros 9): no layer has" write "$R/partial/00/$(printf '%062d' 9)" x
damage "a metadata image that is none" "meta $(zeros 4): is no EROFS image" write "$R/meta/$(zeros 4)" "$(zeros 0)"
damage "a pin that is none" "pin $(zeros 2): is no pin" write "$R/pins/$(zeros 2)" x
damage "a snapshot without its directory" "snapshot default/overlayfs/loose: its directory is not there" no_directory
damage "a directory without a snapshot" "snapshot 4711: no snapshot has this directory" mkdir "$R/snapshots/4711"
damage "a mark of no child" "snapshot nobody: is marked as a child of loose" kvedit put 'snapchild/default%00overlayfs%00loose%00nobody' ''
damage "a container whose snapshot is gone" "container default/c1: its snapshot is not there" drop_container_snapshot
damage "a key that nobody has" "record zzz: nothing has keys" kvedit put zzz y
damage "something kept by no lease" "lease default/nolease" kvedit put 'r%00default%00nolease%00content%00x' '%01%0a%07content%12%01x'
verify
check_eq "what nobody knows is in lost+found" "$(lost blobs)$(lost ingests)$(lost snapshots)$(lost index)$(lost objects)" \
	"$(zeros 7) notes.txt $(zeros 3) 4711 readme x.gaps xyz "

fresh
damage "a blob of another size" "blob $HELLO: has not the size" write "$BLOBS/$HELLO" 'hello and more'
# Which leaves its record without a blob: that is repaired in the same run, and found by a check alone as well.
damage "and its record" "content default/sha256:$HELLO: its blob is not here" true
damage "a snapshot without its work directory" "snapshot default/overlayfs/loose: its work directory" rm -r "$R/snapshots/$(loose_dir)/work"
damage "a child that is not marked" "snapshot default/overlayfs/.*: is not marked as a child" kvedit del "$(kvedit_good list snapchild/ | head -n 1)"
damage "a namespace without its record" "namespace default: there are records in it" kvedit del 'n%00default%00'
damage "an image whose target is gone" "image default/$LAZY: the content that it names" kvedit del "b%00default%00$manifest"
damage "its blob, which nobody knows then" "blob ${manifest#sha256:}: no namespace knows it" true
damage "its pin" "pin image/default/$LAZY: there is no such image" true
verify

fresh
damage "an object of another size" "object [0-9a-f]{64}: has not the size" truncate -s -1 "$(a_file objects -size +1)"
damage "its layer, which was unpacked" "index [0-9a-f]{64}: 1 of [0-9]+ files of this layer of $REGISTRY/tiny are not here" true
damage "and the snapshot" "snapshot default/overlayfs/sha256:[0-9a-f]{64}: its layer index is not there" true
verify

fresh
damage "a snapshot that cannot be read" "record snap/default/overlayfs/loose: " kvedit put "$LOOSE" '{"v":1'
damage "its directory" "snapshot [0-9]+: no snapshot has this directory" true
damage "a record that cannot be read" "record i/default/$LAZY: image record" kvedit put "i%00default%00$LAZY" 'junk'
damage "the pin of that image" "pin image/default/$LAZY: there is no such image" true
damage "a blob with another content" "blob $HELLO: its content is not" write "$BLOBS/$HELLO" jello
damage "and its record" "content default/sha256:$HELLO: its blob is not here" true
damage "the layer of an object" "index [0-9a-f]{64}: 1 of [0-9]+ files" true
overwrite_object() { printf X | dd of="$(a_file objects -size +1)" conv=notrunc status=none; }
damage "an object with another content" "object [0-9a-f]{64}: its content is not" overwrite_object
verify --contents
check "records that were removed are kept" grep -qxaF '{"v":1' "$R"/lost+found/records/*.value

fresh
damage "a container made on an index that is gone" "snapshot default/overlayfs/c1: a layer index that it was made on is not there" other_lower
verify
check_eq "it stands on what is there" "$(kvedit get "$(kvedit list snap/ | grep '%00c1$')" | jq .lower)" null

fresh
damage "an index that is torn" "index [0-9a-f]{64}: " torn_index
damage "the snapshot of that layer" "snapshot default/overlayfs/sha256:[0-9a-f]{64}: its layer index is not there" true
verify

# ---- what cannot be repaired ----
fresh
lazy_index=$(grep -l '"[^"]*/lazy"' "$R"/index/*.source | head -n 1)
truncate -s 100 "${lazy_index%.source}"
check_match "a container on a torn index" "$(fsck --repair; echo "status $?")" "status 4"
output=$(fsck)
check_match "is not dropped" "$output" "snapshot default/overlayfs/c1: its chain of parents is broken, and a container's files stand on it: .*; cannot be repaired"
contentd "$R"
check "a pull mends it" ctl pull "$LAZY"
stop_all
check "so that nothing is wrong any more" fsck

# A chain that bites its own tail has no base, and no leaf: it is told, once for each, and that is all.
fresh
key=$(kvedit list snap/default%00overlayfs%00sha256 | head -n 1)
for end in a:b b:a; do
	kvedit put "${key%%sha256*}${end%:*}" "$(kvedit get "$key" | jq -c --arg parent "${end#*:}" '.parent = $parent')"
	kvedit put "snapchild/default%00overlayfs%00${end#*:}%00${end%:*}" ''
done
output=$(fsck)
check_eq "a circle of parents" "$(grep -c '^snapshot default/overlayfs/[ab]: its chain of parents has no end' <<<"$output")" 2
check_eq "nothing else is wrong" "$(wc -l <<<"$output")" 3

# ---- the database ----
database() {
	local manifest
	manifest=$(cat "$R/db/CURRENT")
	rm "$R/db/$manifest"
}
fresh
database
output=$(fsck 2>&1)
check_eq "a database that does not open: nothing else can be checked" "$?" 8
check_match "that is told" "$output" "database db: .*a repair: put together anew"
output=$(fsck --repair)
check_match "it is put together anew" "$output" "database db: .*repaired: put together anew"
check "with what was in it" fsck
fresh
kvedit put schema 99
check_match "a root of a newer contentd" "$(fsck 2>&1; echo "status $?")" "schema version 99.*newer contentd"
check_match "is not served either" "$("$BIN/contentd" --root "$R" --state "$D/state2" 2>&1)" "schema version 99, this contentd knows only up to"

# ---- after a repair the next use brings everything back ----
fresh
find "$R/objects" -type f -delete
rm -f "$R/content/blobs/sha256/"*
find "$R/index" -type f -name '*.source' | head -n 2 | xargs rm
fsck --repair >"$T/repair.log"
check_match "much is lost" "$(tail -n 1 "$T/repair.log")" "[0-9]+ wrong, [0-9]+ repaired"
contentd "$R"
check "the lazy image is pulled again" ctl pull "$LAZY"
check "and the plain one" ctl pull --lazy=off "$PLAIN"
check_eq "the lazy one runs" "$(said stock run --rm @LOG@ "$LAZY" r1)" "hello from tiny"
check_eq "the plain one runs" "$(said stock run --rm @LOG@ "$PLAIN" r2)" "hello from tiny"
stop_all
check "and nothing is wrong any more" fsck --contents
finish
