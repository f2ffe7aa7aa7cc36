#!/bin/bash
# Lazy images of the reference converter: an eStargz image made by the real ctr-remote with a real containerd is pulled
# lazily and is the tree of the original; and what our converter makes is an image to a real containerd.
. "$(dirname "$0")/../node.sh"
require containerd ctr-remote

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
layout=$("$SOURCE_DIR/bench/images.sh" shell) || bail "images.sh failed"
start_registry
publish "$T/tiny" test/tiny
push_layout "$layout" test/shell:plain || bail "push failed"
reference_tree "$T/tiny" "$T/tiny.ref"
reference_tree "$layout" "$T/shell.ref"

# A containerd of our own, without CRI and with everything below $T.
mkdir "$T/c"
cat >"$T/c/config.toml" <<END
version = 2
root = "$T/c/root"
state = "$T/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp",
	"io.containerd.internal.v1.tracing"]
[grpc]
address = "$T/c/sock"
END
defer sweep "$T/c"
start containerd containerd --config "$T/c/config.toml"
wait_for 30 ctr --address "$T/c/sock" version || start_failed containerd
unset CONTENTD_NAMESPACE
real() { ctr-remote --address "$T/c/sock" --namespace default "$@"; }

# The reference drops what our trees do not show anyway, its landmarks; the rest must be equal.
list() { tree_list --no-dir-times "$1" | grep -v '^\.\(no\.\)\?prefetch\.landmark '; }
list "$T/tiny.ref/rootfs" >"$T/tiny.want"
list "$T/shell.ref/rootfs" >"$T/shell.want"

real images pull --plain-http "$REGISTRY/test/tiny:plain" >"$T/real.log" 2>&1 || bail "$(tail -n 5 "$T/real.log")"
check "ctr-remote converts tiny" real image convert --estargz --oci "$REGISTRY/test/tiny:plain" "$REGISTRY/test/tiny:esgz"
check "and pushes it" real images push --plain-http "$REGISTRY/test/tiny:esgz"
# It takes its time for the large one, which is kept.
layout=$("$SOURCE_DIR/bench/forms.sh" shell esgz) || bail "forms.sh failed"
push_layout "$layout" test/shell:esgz || bail "push failed"

reference() {
	local name
	for name in tiny shell; do
		start_contentd "reference-$name" 'background = "off"'
		check "$name: pull" ctl pull "$REGISTRY/test/$name:esgz"
		check_eq "$name: all its layers are lazy" "$(info '[.layers[].lazy] | all')" true
		check_match "$name: it runs" "$(ctl run --rm "$REGISTRY/test/$name:esgz" 2>&1)" '^hello from (tiny|sh)$'
		check "$name: start" sleeper tree "$REGISTRY/test/$name:esgz"
		list "$(container_root tree)" >"$T/$name.got"
		check_same "$name: the tree is that of the original" "$T/$name.got" "$T/$name.want"
		retire_contentd
	done
}
at_levels reference

# containerd gives a hard link's owner and mode to its file, and sees the table of contents: so its own tree counts.
mkdir "$T/mounted"
for tag in plain lazy; do
	check "containerd pulls $tag" real images pull --plain-http "$REGISTRY/test/tiny:$tag"
	check "$tag: and unpacks it" real images mount "$REGISTRY/test/tiny:$tag" "$T/mounted"
	list "$T/mounted" | grep -v '^stargz\.index\.json ' >"$T/real.$tag"
	check "$tag: unmount" real images unmount "$T/mounted"
done
check_same "to containerd, what contentctl converted is what it was" "$T/real.lazy" "$T/real.plain"
finish
