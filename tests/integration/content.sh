#!/bin/bash
# The content store: ingests that outlive their writers and the daemon, blobs of layers that are not here, and finding
# and repairing what the disk has lost.
. "$(dirname "$0")/../node.sh"
LEVELS=${LEVELS%% *} # mounts make no difference
require docker-registry

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
push_layout "$T/other" test/other:plain || bail "push failed"
# zstd:chunked needs a newer skopeo than this machine's, and a layer without two entries of one name.
make_chunked() {
	reference_tree "$T/other" "$T/other.ref"
	{
		umoci init --layout "$T/flat" && umoci new --image "$T/flat:latest" &&
			umoci insert --image "$T/flat:latest" "$T/other.ref/rootfs" / &&
			peer "$PEER" skopeo copy --insecure-policy --dest-tls-verify=false --dest-compress-format zstd:chunked \
				"oci:$T/flat:latest" "docker://$REGISTRY/test/chunked:zstd"
	} >"$T/chunked.log" 2>&1 || bail "$(cat "$T/chunked.log")"
}
PEER=${PEERS%% *}
[ -z "$PEER" ] || make_chunked
start_netproxy "$REGISTRY"

content() { ctl content "$@"; }
# What nothing refers to may be collected at any time; this is not.
keep() { content put --label containerd.io/gc.root=1 "$@"; }
content_json() { ctl --json content "$@"; }
sum_of() { sha256sum | cut -d' ' -f1; }
blob_file() { echo "$CONTENTD/root/content/blobs/sha256/${1#sha256:}"; }
# Layers of an image that was pulled, one a line.
layers_of() {
	local target
	target=$(ctl --json images | jq -r --arg name "$1" '.[] | select(.name == $name) | .digest')
	content get "$target" | jq -r '.layers[].digest'
}

# ---- ingests ----

offset_of() { content_json ingests "ref==$1" | jq -r '.[0].offset // "none"'; }
has_offset() { [ "$(offset_of "$1")" = "$2" ]; }
# begin REF BYTES: a writer that has sent so many bytes of $T/data and keeps its stream open, waiting for more.
begin() {
	mkfifo "$T/$1.pipe"
	start "put.$1" sh -c 'exec "$1" --address "$2" content put "$3" <"$4"' sh "$BIN/contentctl" "$CONTENTD/contentd.sock" \
		"$1" "$T/$1.pipe"
	WRITER=$STARTED
	exec 7>"$T/$1.pipe"
	head -c "$2" "$T/data" >&7
	wait_for 10 has_offset "$1" "$2" || bail "the writer does not write: $(cat "$T/put.$1.log")"
}

ingests() {
	local digest
	head -c 3000000 /dev/urandom >"$T/data"
	digest=sha256:$(sum_of <"$T/data")

	begin one 1048576
	check_match "a second writer is told of the first" "$(content put one "$T/data" 2>&1)" 'one.* locked'
	kill -KILL "$WRITER"
	exec 7>&-
	check "a writer was killed: its ref is free" wait_for 10 keep --digest "$digest" one "$T/data"
	check_same "and what it wrote is the beginning" "$(blob_file "$digest")" "$T/data"
	check_eq "the ingest is over" "$(offset_of one)" none
	check "content rm" content rm "$digest"

	begin two 2097152
	kill -KILL "$CONTENTD_PID"
	exec 7>&-
	restart_contentd
	check_eq "the daemon was killed: what was written is there" "$(offset_of two)" 2097152
	check_match "its Status as ctr shows it" "$(ctr_ content active)" 'two[[:space:]]+2\.097MB'
	# A server that rewrote the beginning would take the wrong one, too.
	{ head -c 2097152 /dev/zero; tail -c +2097153 "$T/data"; } >"$T/wrong"
	check_eq "it goes on where it was" "$(keep --digest "$digest" two <"$T/wrong" 2>&1)" "$digest"
	check_eq "content get" "$(content get "$digest" | sum_of)" "${digest#sha256:}"
	check_eq "a part of it" "$(content get --offset 1000 --size 5000 "$digest" | sum_of)" \
		"$(tail -c +1001 "$T/data" | head -c 5000 | sum_of)"

	begin three 1048576
	check "abort" content abort three
	exec 7>&-
	wait "$WRITER"
	check "the writer learns of it" grep -q 'aborted' "$T/put.three.log"
	check_eq "nothing is left" "$(offset_of three)" none
	check_fails "a wrong digest" content put --digest "sha256:$(printf %064d 0)" four "$T/data"
	check_eq "put with labels" "$(echo hello | keep --label k=v five)" "sha256:$(echo hello | sum_of)"
	check_match "content ls" "$(content ls 'labels.k==v')" "sha256:$(echo hello | sum_of) +6 B .*,k=v"
	check_eq "content label" "$(content label "sha256:$(echo hello | sum_of)" k= z=1)" "containerd.io/gc.root=1,z=1"
	check_match "a digest that is not there" "$(content get "sha256:$(printf %064d 0)" 2>&1)" 'not found'
}

# ---- blobs of layers that are read lazily ----

# virtual WHAT IMAGE: an image of which only what is needed was fetched.
virtual() {
	local what=$1 image=$NETPROXY/$2 layers layer size before pids=() pid i failed=0
	check "$what: pull" ctl pull "$image"
	layers=$(layers_of "$image")
	layer=$(head -n 1 <<<"$layers")
	check_eq "$what: the layers are lazy" "$(info '.layers[] | select(.lazy) | .blob' | grep -cxF "$layers")" "$(wc -l <<<"$layers")"
	check_fails "$what: there is no file" test -e "$(blob_file "$layer")"
	size=$(curl -s -o /dev/null -w '%header{content-length}' -I "http://$REGISTRY/v2/${2%%:*}/blobs/$layer")
	check_eq "$what: Info knows its size" "$(content_json ls "digest==$layer" | jq '.[0].size')" "$size"
	check_eq "$what: List has all layers" "$(content ls -q | grep -cxF "$layers")" "$(wc -l <<<"$layers")"
	check_match "$what: labels" "$(content label "$layer" mine=1)" 'mine=1'

	curl -s "http://$REGISTRY/v2/${2%%:*}/blobs/$layer" >"$T/blob"
	before=$(netproxy_get body_bytes)
	for i in 1 2 3 4; do
		content get --offset $((size / 2)) --size 1000 "$layer" >"$T/part.$i" 2>"$T/part.err" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
	check_eq "$what: four readers in the middle" "$failed" 0
	tail -c +$((size / 2 + 1)) "$T/blob" | head -c 1000 >"$T/part"
	for i in 1 2 3 4; do
		check_same "$what: reader $i" "$T/part.$i" "$T/part"
	done
	check "$what: it was fetched once" test $(($(netproxy_get body_bytes) - before)) -le $((size + 100000))
	check_same "$what: and is kept" "$(blob_file "$layer")" "$T/blob"
	check "$what: rm" content rm "$layer"
	check_match "$what: now it is gone" "$(content get "$layer" 2>&1)" "$layer\"?: not found"
	check "$what: rmi" ctl rmi "$image"
}

# A blob of a layer that was unpacked, and is not kept.
discarded() {
	local image=$NETPROXY/test/tiny:plain layer
	check "plain: pull" ctl pull "$image"
	layer=$(layers_of "$image" | head -n 1)
	check_fails "plain: its blob is not kept" test -e "$(blob_file "$layer")"
	netproxy_ask down >/dev/null
	check_match "plain: the source is gone" "$(content get "$layer" 2>&1)" "$layer|$NETPROXY"
	check_fails "plain: nothing comes of it" test -e "$(blob_file "$layer")"
	netproxy_ask up >/dev/null
	check_eq "plain: it is back" "$(content get "$layer" | sum_of)" "${layer#sha256:}"
	check "plain: rmi" ctl rmi "$image"
}

lazy() {
	virtual eStargz test/tiny:lazy
	[ -z "$PEER" ] || virtual zstd:chunked test/chunked:zstd
	discarded
}

# ---- damage ----

# Turns over a byte in the middle, as a bad disk does.
damage() {
	local size
	size=$(stat -c %s "$1")
	python3 - "$1" $((size / 2)) <<-'END'
		import os, sys
		os.chmod(sys.argv[1], 0o600)
		with open(sys.argv[1], "r+b") as f:
		    f.seek(int(sys.argv[2]))
		    byte = f.read(1)
		    f.seek(int(sys.argv[2]))
		    f.write(bytes([byte[0] ^ 1]))
	END
}
some_object() { find "$CONTENTD/root/objects" -type f -size +"${1:-0}"c | sort | head -n 1; }
field() { jq -r "$1" "$T/verify"; }
verify() { content_json verify "$@" >"$T/verify" 2>"$T/verify.err"; }

damages() {
	local image=$REGISTRY/test/other:plain layer object index own digest
	check "pull" ctl pull --lazy=off "$image"
	layer=$(layers_of "$image" | head -n 1)
	digest=$(echo mine | keep own)
	check "nothing is damaged" verify
	check_eq "all was read" "$(field '[.blobs > 5, .indexes > 0, .objects > 0, .damaged] | @text')" '[true,true,true,0]'

	damage "$(blob_file "$layer")"
	object=$(some_object 1000)
	damage "$object"
	index=$(find "$CONTENTD/root/index" -type f -name '*[0-9a-f]' ! -name '*.source' | sort | head -n 1)
	damage "$index"
	own=$(blob_file "$digest")
	damage "$own"
	verify
	check_eq "verify: status 1" $? 1
	check_eq "four things are damaged" "$(field .damaged)" 4
	for path in "$(blob_file "$layer")" "$object" "$index" "$own"; do
		check_eq "${path#"$CONTENTD/root/"} is one of them" "$(jq --arg p "$path" '[.damages[] | select(.path == $p)] | length' "$T/verify")" 1
	done
	check_eq "with the image that uses the blob" \
		"$(jq -r --arg p "$(blob_file "$layer")" '.damages[] | select(.path == $p) | .images[0]' "$T/verify")" "$CONTENTD_NAMESPACE/$image"
	check_eq "and the object" "$(jq -r --arg p "$object" '.damages[] | select(.path == $p) | .images[0]' "$T/verify")" \
		"$CONTENTD_NAMESPACE/$image"
	check "nothing was touched" test -e "$object"

	verify --repair
	check_eq "repair: one cannot be helped" $? 1
	check_eq "three can" "$(field '[.damaged, .repaired] | @text')" '[4,3]'
	check_fails "what nobody else has is removed" test -e "$own"
	check_match "and said to be" "$(jq -r --arg p "$own" '.damages[] | select(.path == $p) | .outcome' "$T/verify")" 'ingested again'
	check_eq "so that it can be written again" "$(echo mine | keep own)" "$digest"
	check_eq "the blob is right again" "$(sum_of <"$(blob_file "$layer")")" "${layer#sha256:}"
	check "all is right again" verify
	check_eq "the image runs" "$(ctl run --rm --net none "$image" 2>&1)" "hello from tiny"
}

damages_of_lazy_layers() {
	local image=$REGISTRY/test/tiny:lazy object index indexes
	check "pull, lazily" ctl pull "$image"
	check_eq "it runs" "$(ctl run --rm --net none "$image" 2>&1)" "hello from tiny"
	object=$(some_object 1000)
	damage "$object"
	indexes=$(ctl --json info | jq -r '.layers[].indexKey') # of all layers: that of the object is among them
	for index in $indexes; do
		damage "$CONTENTD/root/index/$index"
	done
	verify --repair
	check_eq "repair: all of it" "$?$(field .repaired | sed 's/^[1-9].*/ some/')" "0 some"
	check_match "files come when they are read" "$(jq -r --arg p "$object" '.damages[] | select(.path == $p) | .outcome' "$T/verify")" 'when it is read'
	for index in $indexes; do
		check "the index is there again" test -e "$CONTENTD/root/index/$index"
	done
	check "all is right again" verify
	check_eq "it runs" "$(ctl run --rm --net none "$image" 2>&1)" "hello from tiny"
}

everything() {
	start_contentd store 'background = "off"' '[content]' 'keep_layer_blobs = false'
	ingests
	lazy
	retire_contentd
	start_contentd damaged 'background = "off"'
	damages
	retire_contentd
	start_contentd damaged-lazy 'background = "off"'
	damages_of_lazy_layers
	retire_contentd
}
at_levels everything
finish
