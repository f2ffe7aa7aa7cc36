#!/bin/bash
# Layers of every form that others have written or still write: pulled lazily through contentd, each is the tree of the layer
# that it was made of. The blobs of tests/golden (skopeo 1.9.3's among them); what skopeo of the suites in $PEERS makes of an image.
. "$(dirname "$0")/../node.sh"
LEVELS=${LEVELS%% *} # forms are opened in one way
require python3 umoci ctr

start_registry
names=$(python3 "$SOURCE_DIR/tests/golden/push.py" "$REGISTRY" golden) || bail "push.py failed"
zcat "$SOURCE_DIR/tests/golden/good/layer.tar.gz" >"$T/layer.tar"
python3 "$SOURCE_DIR/tests/golden/blobs.py" layout "$T/layer.tar" "$T/source" || bail "blobs.py failed"
umoci unpack --image "$T/source:src" "$T/source.ref" >"$T/umoci.log" 2>&1 || bail "$(cat "$T/umoci.log")"

make_tiny_image --once --compression none "$T/tiny" || bail "tiny_image.py failed"
reference_tree "$T/tiny" "$T/tiny.ref"
made=
for suite in $PEERS; do
	peer "$suite" skopeo copy --insecure-policy --dest-tls-verify=false --dest-compress-format zstd:chunked \
		"oci:$T/tiny:latest" "docker://$REGISTRY/made/$suite:latest" >"$T/peer.log" 2>&1 || bail "$(cat "$T/peer.log")"
	made+=" $suite"
done

# Neither umoci nor the oldest dialect keeps xattrs without a value.
listing() { tree_list --no-times "$1" | sed 's/user\.empty=,//'; }
listing "$T/source.ref/rootfs" >"$T/golden.want"
listing "$T/tiny.ref/rootfs" >"$T/made.want"
mkdir "$T/mnt"

# form NAME IMAGE WANT
form() {
	check "$1: pull" ctl pull "$2"
	check_eq "$1: it is lazy" "$(info '[.layers[].lazy] | length > 0 and all')" true
	check "$1: mount" ctr_ images mount "$2" "$T/mnt"
	listing "$T/mnt" >"$T/got"
	check_same "$1: the tree" "$T/got" "$T/$3.want"
	check "$1: unmount" ctr_ images unmount --rm "$T/mnt"
	check "$1: removed" ctl rmi "$2"
}

forms() {
	local name
	start_contentd forms 'background = "off"'
	for name in $names; do form "$name" "$REGISTRY/golden/$name:latest" golden; done
	for name in $made; do
		form "$name" "$REGISTRY/made/$name:latest" made
	done
	retire_contentd
}
at_levels forms
finish
