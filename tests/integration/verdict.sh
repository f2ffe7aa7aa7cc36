#!/bin/bash
# Lazy layers held against their image once they are here: those of real makers are proven, those with two views or another
# DiffID are found false, refused lazily from then on, and their containers go on. No mount differs by level.
. "$(dirname "$0")/../node.sh"
LEVEL=${LEVELS%% *}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
liar() { # liar NAME SPEC
	python3 "$SOURCE_DIR/tests/liar.py" "$T/$1" "{\"base\": \"$T/tiny\", $2}" >"$T/$1.out" || bail "liar.py failed"
	push_layout "$T/$1" "test/$1" || bail "push of $1 failed"
}
golden() { # golden IMAGE NAME...
	python3 "$SOURCE_DIR/tests/golden_layout.py" "$T/$1" "${@:2}" >"$T/$1.list" || bail "golden_layout.py failed"
	push_layout "$T/$1" "test/$1" || bail "push of $1 failed"
}
golden stargz estargz estargz-min-chunk estargz-prefetch zstd-stargz
golden storage zstd-chunked zstd-chunked-podman
golden history zstd-chunked-2022 by-hand-zstd-2022-11 by-hand-zstd-2023-06 by-hand-zstd-2023-08
golden podman zstd-chunked-podman
# Two zstd:chunked layers with the same large file.
umoci init --layout "$T/empty" && umoci new --image "$T/empty:latest" || bail "umoci failed"
mkdir "$T/big"
head -c 4000000 /dev/urandom >"$T/big/data"
for image in first second; do
	echo "$image" >"$T/big/name"
	tar -C "$T" -czf "$T/$image.tar.gz" big
	python3 "$SOURCE_DIR/tests/add_layer.py" "$T/empty" "$T/$image.tar.gz" "$T/$image" || bail "add_layer.py failed"
	"$BIN/contentctl" convert --format zstd:chunked "oci:$T/$image:latest" "$REGISTRY/test/$image" >"$T/$image.log" 2>&1 ||
		bail "conversion failed: $(cat "$T/$image.log")"
done
# The tar of the golden layers, as it is.
python3 "$SOURCE_DIR/tests/add_layer.py" "$T/empty" "$SOURCE_DIR/tests/golden/good/layer.tar.gz" "$T/plain" ||
	bail "add_layer.py failed"
push_layout "$T/plain" test/plain || bail "push of plain failed"
liar views '"files": [{"name": "lies/su", "text": "#!/bin/sh\n", "mode": 2541, "toc_mode": 493}, {"name": "lies/other", "text": "x"}]'
liar promise "\"files\": [{\"name\": \"lies/file\", \"text\": \"text\"}]"
# Its configuration promises what the tiny image has, and one more.
python3 - "$T/promise" <<'PY' || bail "changing the configuration failed"
import hashlib, json, os, sys
def path(digest): return os.path.join(sys.argv[1], "blobs/sha256", digest[7:])
def put(doc):
    data = json.dumps(doc).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    open(path(digest), "wb").write(data)
    return {"digest": digest, "size": len(data)}
index = json.load(open(os.path.join(sys.argv[1], "index.json")))
manifest = json.load(open(path(index["manifests"][0]["digest"])))
config = json.load(open(path(manifest["config"]["digest"])))
config["rootfs"]["diff_ids"][-1] = "sha256:" + "5" * 64
manifest["config"].update(put(config))
index["manifests"][0].update(put(manifest))
json.dump(index, open(os.path.join(sys.argv[1], "index.json"), "w"))
PY
push_layout "$T/promise" test/promise || bail "push of promise failed"

# The verdict of a blob's lazy layer, and why; "none" when there is no such layer.
verdict() { info "[.layers[] | select(.blob == \"$1\" and .lazy)] | .[0].verdict // \"none\""; }
reason() { info "[.layers[] | select(.blob == \"$1\" and .lazy)] | .[0].verdictReason // \"none\""; }
becomes() { # becomes VERDICT BLOB
	wait_for 20 eval "[ \"\$(verdict $2)\" = $1 ]" || note "$2 is $(verdict "$2"): $(reason "$2")"
	check_eq "$3 is $1" "$(verdict "$2")" "$1"
}
layers_of() { skopeo inspect --raw --tls-verify=false "docker://$1" | jq -r '.layers[].digest'; }

# are_proven IMAGE...: all of their layers, by the lists of golden
are_proven() {
	local image name blob diff_id
	for image; do
		check "layers of $image's are pulled" ctl pull "$REGISTRY/test/$image"
		while read -r name blob diff_id; do
			becomes proven "$blob" "$name"
			check_eq "$name: its DiffID" "$(info ".layers[] | select(.blob == \"$blob\") | .diffId")" "$diff_id"
		done <"$T/$image.list"
	done
}

honest() {
	local blob
	check "our eStargz is pulled" ctl pull "$REGISTRY/test/tiny:lazy"
	for blob in $(layers_of "$REGISTRY/test/tiny:lazy"); do
		becomes proven "$blob" "our layer"
	done
	are_proven stargz storage
	check_match "info says so" "$(ctl info)" ", lazy, proven"
	check_eq "their gaps are not kept" "$(find "$CONTENTD/root" -name '*.gaps')" ""
}

# What another image brought is not fetched for it: headers are those of the tar-split, contents those that are here.
others() {
	local image blob
	for image in first second; do
		check "$image: is pulled" ctl pull "$REGISTRY/test/$image"
		blob=$(layers_of "$REGISTRY/test/$image" | tail -n 1)
		becomes proven "$blob" "$image: its layer"
	done
}

# A proven layer is what other images mean by its DiffID, lazy or not: nothing is unpacked for them.
elsewhere() {
	local image
	for image in podman plain; do
		check "$image: is pulled" ctl pull "$REGISTRY/test/$image"
		check_eq "$image: its layer was here" "$(info '[.layers[] | select(.lazy == false)] | length')" 0
	done
}

# false_one IMAGE REASON: a container runs; it goes on, and who pulls again gets an ordinary layer, or nothing
false_one() {
	local blob before
	blob=$(tail -n 1 "$T/$1.out" | cut -d' ' -f1)
	check "$1: is pulled" ctl pull "$REGISTRY/test/$1"
	check "$1: and starts" sleeper "$1" "$REGISTRY/test/$1"
	becomes false "$blob" "$1"
	check_match "$1: why" "$(reason "$blob")" "$2"
	check_match "$1: the log says so" "$(cat "$CONTENTD/state/contentfs.log")" "layer $blob is false"
	check "$1: its container goes on" ctl exec "$1" cat /lies/"$3"
}

views() {
	local blob
	false_one views "lies/su: mode 0755 in the TOC, 4755 in the tar" su
	blob=$(tail -n 1 "$T/views.out" | cut -d' ' -f1)
	check_eq "views: whom it runs for sees the TOC" "$(stat -c %a "$(container_root views)/lies/su")" 755
	check "views: is pulled again" ctl pull "$REGISTRY/test/views"
	check_eq "views: as an ordinary layer" \
		"$(info "[.layers[] | select(.blob == \"$blob\" and .lazy == false)] | .[0].verdict")" proven
	check "views: starts" sleeper again "$REGISTRY/test/views"
	check_eq "views: and is what its tar says" "$(stat -c %a "$(container_root again)/lies/su")" 4755
	# Known also when nothing else of it is left.
	remove_container views
	remove_container again
	check "views: is removed" ctl rmi "$REGISTRY/test/views"
	check "views: nothing of it is left" wait_for 20 eval "[ \"\$(verdict $blob)\" = none ]"
	check "views: is pulled once more" ctl pull "$REGISTRY/test/views"
	check_eq "views: and still not lazily" "$(verdict "$blob")" none
}

promise() {
	false_one promise "its DiffID is sha256:.*, the configuration says sha256:5555" file
	check_fails "promise: pulling it again fails" ctl pull "$REGISTRY/test/promise"
}

# contentfs dies in the middle; the next one goes on, or begins again. Of layers that were just arriving it may lack what was in memory.
dies() {
	local blob
	export CONTENTD_FAILPOINT=$1:$T/armed
	touch "$T/armed"
	start_contentd "$1" 'background = "eager"'
	check "$1: the image is pulled" ctl pull "$REGISTRY/test/tiny:lazy"
	wait_for 20 test ! -e "$T/armed"
	check "$1: it died there" test ! -e "$T/armed"
	for blob in $(layers_of "$REGISTRY/test/tiny:lazy"); do
		wait_for 20 eval "[ \"\$(verdict $blob)\" = proven ] || reason $blob | grep -q 'passed through'"
		check_match "$1: its layer" "$(verdict "$blob") $(reason "$blob")" "^proven|have not passed through here"
	done
	retire_contentd
	unset CONTENTD_FAILPOINT
}

start_contentd verdict 'background = "eager"'
honest
elsewhere
others
views
promise
retire_contentd
# Where nothing else has their DiffID.
start_contentd ages 'background = "eager"'
are_proven history
retire_contentd
dies gaps-appended
dies proof-stored
start_contentd off 'background = "eager"' 'prove = false'
# While the second is read through, the first would long be proven.
for image in tiny:lazy storage; do
	check "off: $image is pulled" ctl pull "$REGISTRY/test/$image"
	check "off: and is here" wait_for 20 eval "info '[.layers[] | .contentBytes == .presentBytes] | all' | grep -q true"
done
check_eq "off: nothing is proven" "$(info '[.layers[].verdict] | unique | join(" ")')" unproven
retire_contentd
finish
