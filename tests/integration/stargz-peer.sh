#!/bin/bash
# What our converter makes, read by the real stargz-snapshotter: its library takes the table of contents, and its daemon
# mounts every layer lazily through a real containerd. ctr-remote and containerd are those of the first suite in $PEERS.
# Debian has the daemon in no package: the half that mounts runs where bench/peers/stargz.sh has compiled it (`make peers`).
. "$(dirname "$0")/../lib.sh"
SUITE=${PEERS%% *}
[ -n "$SUITE" ] || SUITE=trixie
require umoci skopeo python3 curl jq
grpc=$("$SOURCE_DIR/bench/peers/stargz.sh" --path "$SUITE") || bail "no program for $SUITE"

share_mounts
make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
umoci unpack --image "$T/tiny:latest" "$T/reference" >"$T/umoci.log" 2>&1 || bail "$(tail -n 5 "$T/umoci.log")"
start_registry
ns=${T##*.}-stargz # of containers, and the folder of their control groups
remove_cgroups() { find /sys/fs/cgroup -depth -type d \( -path "*/$ns" -o -path "*/$ns/*" \) -exec rmdir {} + 2>/dev/null || true; }
defer remove_cgroups

# ---- the real ones ----

C=$T/c
mkdir "$C"
cat >"$C/config.toml" <<-END
	version = 2
	root = "$C/root"
	state = "$C/state"
	disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
		"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
		"io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
	[grpc]
	address = "$C/sock"
	[proxy_plugins.stargz]
	type = "snapshot"
	address = "$C/stargz.sock"
END
# Nothing but what is asked for, so that what is read proves that it comes lazily.
printf 'no_background_fetch = true\n[blob]\ncheck_always = true\n' >"$C/stargz.toml"
defer sweep "$C"
real() { peer "$SUITE" "$1" --address "$C/sock" --namespace "$ns" "${@:2}"; }
if [ -x "$grpc" ]; then
	start stargz "$grpc" --address "$C/stargz.sock" --config "$C/stargz.toml" --root "$C/stargz"
	wait_for 30 test -S "$C/stargz.sock" || start_failed stargz
else
	note "$grpc is not there: no mounts (bench/peers/stargz.sh $SUITE makes it)"
fi
start containerd "$SOURCE_DIR/tests/peers.sh" "$SUITE" containerd --config "$C/config.toml"
wait_for 30 real ctr version || start_failed containerd

# ---- an image ----

# manifest TAG JQ
manifest() { curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/test/tiny/manifests/$1" | jq -r "$2"; }

# library TAG [--zstdchunked]: its own reader finds the TOC whose digest we say.
library() {
	local digest said
	while read -r digest said; do
		check_eq "${digest:7:12}: the TOC that ctr-remote finds" \
			"$(real ctr-remote images get-toc-digest "${@:2}" "$digest" 2>&1)" "$said"
	done < <(manifest "$1" '.layers[] | "\(.digest) \(.annotations["containerd.io/snapshot/stargz/toc.digest"])"')
}

# top TAG: the chain id of all layers.
top() {
	local config diff chain=
	config=$(manifest "$1" .config.digest)
	for diff in $(curl -sf "http://$REGISTRY/v2/test/tiny/blobs/$config" | jq -r '.rootfs.diff_ids[]'); do
		[ -z "$chain" ] && chain=$diff || chain=sha256:$(printf '%s %s' "$chain" "$diff" | sha256sum | cut -d' ' -f1)
	done
	echo "$chain"
}

# view TAG: the mount of a snapshot of it in $T/mount.sh. It belongs to nobody, so that containerd collects it when it pleases.
view() {
	real ctr snapshots --snapshotter stargz view "tree-$1" "$(top "$1")" >"$T/view.log" 2>&1
	real ctr snapshots --snapshotter stargz mounts "$T/tree" "tree-$1" >"$T/mount.sh" 2>>"$T/view.log"
}

# mounted TAG: through the daemon, a FUSE mount a layer; the tree; a container.
mounted() {
	local image=$REGISTRY/test/tiny:$1 layers=0
	check "rpull" real ctr-remote images rpull --snapshotter stargz --plain-http "$image"
	layers=$(manifest "$1" '.layers | length')
	check_eq "a mount a layer" "$(findmnt -rno FSTYPE,TARGET | awk -v dir="$C/stargz/" '$1 ~ /^fuse/ && index($2, dir) == 1' | wc -l)" "$layers"
	check_eq "no layer was fetched whole" "$(real ctr content ls -q | grep -cxF "$(manifest "$1" '.layers[].digest')")" 0
	check_fails "the daemon has nothing to complain of" grep -qE 'failed to|"level":"(warning|error)"' "$T/stargz.log"
	mkdir -p "$T/tree"
	wait_for 20 view "$1" || cat "$T/view.log"
	check "mount" sh -e "$T/mount.sh"
	tree_list --no-times "$T/tree" >"$T/$1.got"
	umount "$T/tree"
	check_same "the tree" "$T/$1.got" "$T/want"
	check_eq "a container" "$(said real ctr run --rm @LOG@ --snapshotter stargz --cgroup "/$ns/$1" "$image" "$1" 2>&1)" \
		"hello from tiny"
	# The collection that follows takes the view, too.
	real ctr images rm --sync "$image" >/dev/null
	check "and gone again" wait_for 10 eval '[ -z "$(findmnt -rno TARGET | grep -F "$C/stargz/")" ]'
}

# form TAG OPTION...: converted so; its library knows no TOC that is elsewhere.
form() {
	local tag=$1
	shift
	T_PREFIX="$tag: "
	cp -r "$T/tiny" "$T/$tag"
	check "convert" python3 "$SOURCE_DIR/tests/lazy_layout.py" "$BUILD/unit/esgzconv" "$T/$tag" "$@"
	push_layout "$T/$tag" "test/tiny:$tag" || bail "push failed"
	if [ -e "$T/$tag-esgztoc" ]; then
		push_layout "$T/$tag-esgztoc" "test/tiny:$tag-esgztoc" || bail "push failed"
	else
		check "ctr-remote pulls it" real ctr-remote images pull --plain-http "$REGISTRY/test/tiny:$tag"
		if [[ "$*" == *zstd* ]]; then library "$tag" --zstdchunked; else library "$tag"; fi
		real ctr images rm --sync "$REGISTRY/test/tiny:$tag" >/dev/null
	fi
	[ ! -x "$grpc" ] || mounted "$tag"
	T_PREFIX=
}

tree_list --no-times "$T/reference/rootfs" >"$T/want"
form estargz --format estargz
form min-chunk --format estargz --min-chunk-size 100000
printf 'bin/busybox\napp/hello\n' >"$T/first"
form prioritized --format estargz --priority "$T/first"
if [ -x "$grpc" ]; then
	form external --format estargz-external-toc
	form keep-diff-id --format estargz-external-toc --keep-diff-id
fi
form zstd --format zstd:chunked-stargz
finish
