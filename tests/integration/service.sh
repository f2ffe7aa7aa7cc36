#!/bin/bash
# The commands of contentfs with a real registry: what it opens, unpacks, fetches and keeps.
. "$(dirname "$0")/../lib.sh"
require docker-registry curl jq skopeo python3
for program in bin/contentfs bin/netproxy unit/ffsctl unit/esgzconv; do
	[ -x "$BUILD/$program" ] || bail "$BUILD/$program is not built"
done
STATE=$T/state

# ffs COMMAND...: contentfs of $STATE, which the first one starts.
ffs() {
	"$BUILD/unit/ffsctl" --root "$T/root" --state "$STATE" --program "$BIN/contentfs" --option --background --option off \
		--option --certs-dir --option "$T/certs" "$@" 2>"$T/ffs.err"
}
status_of() { ffs status | awk -v k="$1" '$1 == k { print $2 }'; }
stop_contentfs() {
	local pid
	pid=$(status_of holder)
	kill "$pid" && wait_for 10 gone "$pid"
}
gone() { ! kill -0 "$1" 2>/dev/null; }
defer stop_contentfs
# keys IMAGE WHAT: index keys of an image's layers that are lazy or plain, base first.
keys() { ffs open "$1" | awk -v w="$2" '$1 == "layer" && $5 == w && $4 != "-" { print $4 }'; }
# check_files WHAT KEY: every file of a layer has its content, read through the mount.
check_files() {
	ffs files "$2" | awk '$(NF-2) > 0 { c = $(NF-1); print $NF "  " substr(c, 1, 2) "/" substr(c, 3) }' >"$T/sums"
	check "$1" sh -c "cd '$STATE/lazy' && test -s '$T/sums' && sha256sum --quiet -c '$T/sums'"
}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
cp -r "$T/tiny" "$T/lazy"
python3 "$SOURCE_DIR/tests/lazy_layout.py" "$BUILD/unit/esgzconv" "$T/lazy" >"$T/toc" || bail "lazy_layout.py failed"
start_registry
start_netproxy "$REGISTRY"
make_certificates
push_layout "$T/tiny" tiny && push_layout "$T/lazy" lazy || bail "push failed"
tiny=$NETPROXY/tiny lazy=$NETPROXY/lazy

# ---- opening ----

mkdir -p "$T/certs"
check "it starts" ffs start
ffs open "$lazy" >"$T/open"
check_eq "all layers of a lazy image are lazy" "$(grep -c '^layer .* lazy $' "$T/open")" 3
check_eq "opening asks for the manifest, the configuration and once for each layer" "$(grep -c '^GET' "$NETPROXY_LOG")" 5
check_match "by their ends" "$(cat "$NETPROXY_LOG")" "blobs/.* 206 "
before=$(grep -c '^GET' "$NETPROXY_LOG")
ffs open "$lazy" >"$T/again"
check_same "opened again it is the same" "$T/again" "$T/open"
check_eq "and the layers are known" "$(($(grep -c '^GET' "$NETPROXY_LOG") - before))" 2
check_eq "no content was fetched" "$(status_of demand_requests)" 0
for key in $(keys "$lazy" lazy); do
	check_files "files of the layer ${key:0:8} come through the mount" "$key"
done
check "some on demand" test "$(status_of demand_requests)" -gt 0

check "documents" ffs documents "$lazy" "$T/docs"
check_eq "they are the manifest and the configuration" "$(ffs documents "$lazy" "$T/docs" | while read -r digest at n; do
	[ "sha256:$(tail -c +$((at + 1)) "$T/docs" | head -c "$n" | sha256sum | cut -d' ' -f1)" = "$digest" ] && echo ok
done | wc -l)" 2

check_fails "an image that is not there" ffs open "$NETPROXY/nothing"
check_match "is named, with the registry's answer" "$(cat "$T/ffs.err")" "not found.*$NETPROXY/nothing.*404"
check_fails "no reference" ffs open "A b"

# A TOC that is not what the manifest says.
cp -r "$T/lazy" "$T/lying"
manifest=$(jq -r '.manifests[0].digest' "$T/lazy/index.json" | cut -d: -f2)
jq -c --arg d "sha256:$(printf '5%.0s' {1..64})" \
	'.layers[1].annotations["containerd.io/snapshot/stargz/toc.digest"] = $d' "$T/lazy/blobs/sha256/$manifest" >"$T/m"
digest=$(sha256sum <"$T/m" | cut -d' ' -f1)
cp "$T/m" "$T/lying/blobs/sha256/$digest"
jq -c --arg d "sha256:$digest" --argjson n "$(stat -c %s "$T/m")" '.manifests[0].digest = $d | .manifests[0].size = $n' \
	"$T/lazy/index.json" >"$T/lying/index.json"
push_layout "$T/lying" lying || bail "push failed"
ffs open "$NETPROXY/lying" >"$T/open"
check_eq "a layer whose TOC is another one is not lazy" "$(awk '$1 == "layer" { print $5 }' "$T/open" | tr '\n' ' ')" "lazy plain lazy "
check_match "and the reason names image, layer and digests" "$(grep ' plain ' "$T/open")" \
	"$NETPROXY/lying.* layer sha256:[0-9a-f]+: .*should be sha256:5555"
check_match "and is in the log" "$(cat "$STATE/contentfs.log")" "warn.*$NETPROXY/lying.*not lazy"

# ---- unpacking ----

mkdir "$T/ingest"
check "an ordinary image is unpacked" ffs unpack "$tiny" "$T/ingest"
for file in "$T"/ingest/*; do
	check_eq "the copy of ${file##*/} is whole" "$(sha256sum <"$file" | cut -d' ' -f1)" "${file##*/}"
done
check_eq "and known by its DiffIDs from then on" "$(keys "$tiny" plain | wc -l)" 3
for key in $(keys "$tiny" plain); do
	check_eq "objects of the layer ${key:0:8} are in the store" "$(ffs files "$key" | awk '$(NF-2) > 0 { print $NF }' |
		while read -r c; do sha256sum "$T/root/objects/${c:0:2}/${c:2}" | cut -d' ' -f1 | grep -vx "$c"; done)" ""
done
check_eq "no batch is left" "$(find "$T/root/partial" -name 'unpack-*' | wc -l)" 0
check "a lazy image can be unpacked as well" ffs unpack "$lazy"

blob=$(jq -r '.layers[0].digest' "$T/tiny/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/tiny/index.json" | cut -d: -f2)")
layer=$T/tiny/blobs/sha256/${blob#*:}
diff=$(ffs open "$tiny" | awk '$1 == "layer" { print $3; exit }')
check "a layer from a file" ffs import "$layer" "$tiny" "$diff"
check_fails "another DiffID" ffs import "$layer" "$tiny" "sha256:$(printf '4%.0s' {1..64})"
check_match "is an error that names both" "$(cat "$T/ffs.err")" "data loss: image .*tiny, layer $blob: DiffID is $diff, should be sha256:4444"
{ head -c 100000 "$layer"; printf x; tail -c +100002 "$layer"; } >"$T/broken"
check_fails "a broken layer" ffs import "$T/broken" "$tiny"
head -c 100000 "$layer" >"$T/cut"
check_fails "a layer that ends early" ffs import "$T/cut" "$tiny"
check_eq "they leave nothing behind" "$(find "$T/root/partial" -name 'unpack-*' | wc -l)" 0

# ---- blobs ----

size=$(stat -c %s "$layer")
head -c 1000 "$layer" >"$T/blob"
before=$(netproxy_get body_bytes)
check "a blob is fetched from where its file ends" ffs fetch "$tiny" "$blob" "$size" "$T/blob"
check_same "and is whole" "$T/blob" "$layer"
check "without what was there" test $(($(netproxy_get body_bytes) - before)) -lt "$size"
printf 'something else' >"$T/blob"
check_fails "a file that begins with something else" ffs fetch "$tiny" "$blob" "$size" "$T/blob"
check_match "is told by its digest" "$(cat "$T/ffs.err")" "data loss: image .*should be .*$blob"
check_eq "and emptied" "$(stat -c %s "$T/blob")" 0
fault() { netproxy_ask fault "$@" >"$T/fault" || bail "netproxy refuses $*"; }
fault truncate=40% 2 GET /v2/tiny/blobs/
check "a connection that breaks is no matter" ffs fetch "$tiny" "$blob" "$size" "$T/blob"
check_same "the bytes are right" "$T/blob" "$layer"

# ---- unpacking over a bad network ----

make_tiny_image --seed 2 "$T/other" && push_layout "$T/other" other || bail "push failed"
other=$(ffs open "$NETPROXY/other" | awk '$1 == "layer" { print $2; exit }')
fault flip=60% 1 GET "/v2/other/blobs/$other"
check_fails "bytes that are not what they should be" ffs unpack "$NETPROXY/other" "$T/ingest"
check_match "are an error" "$(cat "$T/ffs.err")" "data loss: image $NETPROXY/other, layer $other: "
check_eq "and leave no batch" "$(find "$T/root/partial" -name 'unpack-*' | wc -l)" 0
check_eq "and an empty copy" "$(stat -c %s "$T/ingest/${other#*:}")" 0
fault truncate=40% 2 GET "/v2/other/blobs/$other"
check "broken connections are no matter" ffs unpack "$NETPROXY/other" "$T/ingest"
for file in "$T"/ingest/*; do
	check_eq "the copy of ${file##*/} is whole" "$(sha256sum <"$file" | cut -d' ' -f1)" "${file##*/}"
done

# Two at once, and the worker dies in between.
make_tiny_image --seed 3 "$T/third" && push_layout "$T/third" third || bail "push failed"
netproxy_ask net 0 16 >"$T/net" || bail "netproxy is not slowed down"
ffs unpack "$NETPROXY/third" >"$T/one" &
one=$!
wait_for 10 sh -c "ls '$T/root/partial' | grep -q unpack-"
ffs unpack "$NETPROXY/third" >"$T/two" &
two=$!
check "the first of two who unpack the same" wait "$one"
check "and the second" wait "$two"
check_same "get the same" <(sort "$T/one") <(sort "$T/two")
ffs delete $(awk '{ print $4 }' "$T/one") || bail "they cannot be deleted"
ffs unpack "$NETPROXY/third" "$T/ingest" >"$T/one" &
one=$!
wait_for 10 sh -c "ls '$T/root/partial' | grep -q unpack-"
kill -KILL "$(status_of worker)"
check "a worker that dies meanwhile is replaced, and it is done again" wait "$one"
check_eq "by another one" "$(status_of generation)" 2
check_eq "with everything" "$(ffs files "$(awk 'NR == 1 { print $4 }' "$T/one")" | awk '$(NF-2) > 0 { print $NF }' |
	while read -r c; do sha256sum "$T/root/objects/${c:0:2}/${c:2}" | cut -d' ' -f1 | grep -vx "$c"; done)" ""
netproxy_ask net 0 0 >"$T/net" || bail "netproxy stays slow"

# ---- what is kept ----

mapfile -t key < <(keys "$lazy" lazy)
check "pinned" ffs pin "image of the test" "${key[0]}" "${key[1]}"
check_eq "and seen so" "$(ffs status | grep -c ' pinned ')" 2
check_fails "pinned layers cannot be deleted" ffs delete "${key[0]}"
check_match "who pins is said" "$(cat "$T/ffs.err")" "failed precondition: .*${key[0]} is pinned by image of the test"
check_fails "what is not there cannot be pinned" ffs pin other "$(printf 'a%.0s' {1..64})"
check "a fill brings the rest" ffs fill "${key[@]}"
check_eq "everything is here" "$(ffs status "${key[@]}" | awk '$1 == "layer" && $5 != $6')" ""
check_fails "a fill of what is not there" ffs fill "$(printf 'a%.0s' {1..64})"

# ---- credentials, certificates, and the death of a worker ----

start_registry --user bob s3cret
push_layout "$T/lazy" lazy --dest-creds bob:s3cret || bail "push failed"
check_fails "without a password" ffs open "$REGISTRY/lazy"
check_match "is refused" "$(cat "$T/ffs.err")" "unauthenticated"
check "with one" ffs --account bob:s3cret open "$REGISTRY/lazy"
check_fails "which is not for whoever comes next" ffs open "$REGISTRY/lazy"
worker=$(status_of worker)
kill -KILL "$worker"
check "a new worker knows the password" ffs --account remembered open "$REGISTRY/lazy"
check_fails "and whose it is" ffs --owner other --account remembered open "$REGISTRY/lazy"
check_eq "it is the third" "$(status_of generation)" 3
check_eq "with the layers" "$(ffs status | grep -c '^layer')" "$(find "$T/root/index" -name '*.source' | wc -l)"
check_eq "and the pins" "$(ffs status | grep -c ' pinned ')" 2
check "unpinned" ffs unpin "image of the test"
check "and deleted" ffs delete "${key[0]}"
check_eq "it is gone" "$(find "$T/root/index" -name "${key[0]}*" | wc -l)" 0
check_eq "the password is nowhere" "$(grep -rl s3cret "$T/root" "$STATE/contentfs.log" | wc -l)" 0

start_tls_front "$NETPROXY"
check_fails "a registry with an unknown authority" ffs open "$TLS_REGISTRY/lazy"
mkdir -p "$T/certs/$TLS_REGISTRY" && cp "$TLS_CA" "$T/certs/$TLS_REGISTRY/ca.crt"
kill -KILL "$(status_of worker)"
check "is trusted by certs.d" ffs open "$TLS_REGISTRY/lazy"

# ---- the same layers from another registry, when the first is gone ----

make_tiny_image --seed 4 "$T/fourth"
python3 "$SOURCE_DIR/tests/lazy_layout.py" "$BUILD/unit/esgzconv" "$T/fourth" >"$T/toc" || bail "lazy_layout.py failed"
start_registry
first=$STARTED
push_layout "$T/fourth" fourth || bail "push failed"
ffs open "$REGISTRY/fourth" >"$T/open"
stop_pid "$first"
start_registry
push_layout "$T/fourth" fourth || bail "push failed"
ffs open "$REGISTRY/fourth" >"$T/again"
check_same "layers are known by what they are, not by where they came from" <(grep ^layer "$T/again") <(grep ^layer "$T/open")
moved=$(awk '$1 == "layer" { print $4; exit }' "$T/again")
check_files "and come from where they are" "$moved"

# ---- a torn index ----

torn=${key[1]}
printf 'torn' | dd of="$T/root/index/$torn" bs=1 seek=500 conv=notrunc status=none
kill -KILL "$(status_of worker)"
check_eq "a torn index is dropped" "$(ffs status | grep -c "$torn")" 0
check_match "with a warning" "$(cat "$STATE/contentfs.log")" "warn.*layer index $torn is of no use and removed"
check_match "and made again" "$(ffs open "$lazy")" "$torn lazy"

# ---- holder and worker dead at once: who kept their descriptors brings them back ----

mkfifo "$T/shell.in" "$T/shell.out"
"$BUILD/unit/ffsctl" --root "$T/root" --state "$STATE" --program "$BIN/contentfs" --option --background --option off \
	--option --certs-dir --option "$T/certs" shell <"$T/shell.in" >"$T/shell.out" 2>"$T/shell.err" &
shell=$!
exec 3>"$T/shell.in" 4<"$T/shell.out"
# say COMMAND...: its output is in $T/said; fails when it fails.
say() {
	local line
	echo "$*" >&3
	: >"$T/said"
	while read -r -t 60 line <&4; do
		[ "${line% *}" = done ] && return "${line#done }"
		echo "$line" >>"$T/said"
	done
	return 1
}
said() { awk -v k="$1" '$1 == k { print $2 }' "$T/said"; }
check "a client that stays" say status
object=$(ffs files "$torn" | sort -k2n | awk 'END { print $(NF-1) " " $NF }')
object_path=$STATE/lazy/${object:0:2}/${object:2:62}
exec 5<"$object_path"
mount_before=$(stat -c %d "$STATE/lazy")
say status
kill -KILL "$(said worker)" "$(said holder)" 2>/dev/null || kill -KILL "$(said holder)"
check "brings both back" say status
check_match "on the same mount" "$(said generation)" "^[0-9]+$"
check_eq "which was not made anew" "$(stat -c %d "$STATE/lazy")" "$mount_before"
check_eq "a file that was open is read on" "$(sha256sum <&5 | cut -d' ' -f1)" "${object#* }"
exec 5<&-
check "everything is known" say open "$lazy"
exec 3>&- 4<&-
wait "$shell"

finish
