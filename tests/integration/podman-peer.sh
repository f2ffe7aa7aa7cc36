#!/bin/bash
# zstd:chunked as our converter makes it, read by podman of the first suite in $PEERS, which fetches pieces of the layers,
# rebuilds each tar from its tar-split and finds the DiffIDs of the configuration; and by skopeo, as any image.
. "$(dirname "$0")/../lib.sh"
SUITE=${PEERS%% *}
[ -n "$SUITE" ] || SUITE=trixie
require skopeo python3 jq nsenter

make_tiny_image --once --compression none "$T/tiny" || bail "tiny_image.py failed"
start_registry

# ---- podman, in a mount namespace that lasts ----

# What it has at fixed places is below $T: its configuration, its cache of where blobs were seen, its locks.
P=$T/podman
mkdir -p "$P"/{etc,lib,run}
cat >"$P/etc/storage.conf" <<-END
	[storage]
	driver = "overlay"
	graphroot = "$P/storage"
	runroot = "$P/run/storage"
	[storage.options]
	pull_options = {enable_partial_images = "true", convert_images = "false", use_hard_links = "false", ostree_repos = ""}
END
cat >"$P/etc/containers.conf" <<-END
	[engine]
	runtime = "runc"
	cgroup_manager = "cgroupfs"
	lock_type = "file"
	events_logger = "file"
	tmp_dir = "$P/run/libpod"
	[containers]
	log_driver = "k8s-file"
END
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$P/etc/policy.json"
echo 'unqualified-search-registries = []' >"$P/etc/registries.conf"
defer sweep "$P"
peer "$SUITE" true || bail "no root of $SUITE"
start room unshare --mount --propagation private sh -c '
	mount --bind "$0/etc" /etc/containers && mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run &&
	exec "$@"' "$P" "$SOURCE_DIR/tests/peers.sh" "$SUITE" sleep 100000
ROOM=$STARTED
# shellcheck disable=SC2016 # a program of its own
wait_for 10 sh -c 'tr "\0" " " </proc/$0/cmdline | grep -q "^sleep"' "$ROOM" || start_failed room
podman() { nsenter --mount="/proc/$ROOM/ns/mnt" podman "$@" 2>>"$T/podman.log"; }
ns=${T##*.}-podman # folder of the control groups
remove_cgroups() { find /sys/fs/cgroup -depth -type d \( -path "*/$ns" -o -path "*/$ns/*" \) -exec rmdir {} + 2>/dev/null || true; }
defer remove_cgroups

# partial TAG: pulled piece by piece; a container of it; its tree into $T/TAG.tree.
partial() {
	local image=$REGISTRY/test/tiny:$1
	: >"$T/podman.log"
	podman --log-level debug pull --quiet --tls-verify=false "$image" >/dev/null
	check_eq "podman pulls it" $? 0
	check_eq "each layer partially" "$(grep -c 'Retrieved partial blob' "$T/podman.log")" 3
	check_eq "they have the DiffIDs of the source" "$(podman image inspect "$image" | jq -c '.[0].RootFS.Layers')" "$diff_ids"
	check_eq "a container" "$(podman run --rm --network none --cgroup-parent "/$ns" "$image")" "hello from tiny"
	tree_list --no-times "/proc/$ROOM/root$(podman image mount "$image")" >"$T/$1.tree"
	podman image rm --force "$image" >/dev/null
}

# whole: copied as any image, into tars.
whole() {
	local layer sums=()
	check "skopeo copies it" peer "$SUITE" skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$REGISTRY/test/tiny:ours" \
		"docker-archive:$T/copied.tar:test/tiny:ours"
	for layer in $(tar -xOf "$T/copied.tar" manifest.json | jq -r '.[0].Layers[]'); do
		sums+=("$(tar -xOf "$T/copied.tar" "$layer" | sha256sum | cut -d' ' -f1)")
	done
	check_eq "its tars are the source's" "$(jq -cn '[$ARGS.positional[] | "sha256:" + .]' --args "${sums[@]}")" "$diff_ids"
	rm "$T/copied.tar"
}

diff_ids=$(skopeo inspect --config "oci:$T/tiny:latest" | jq -c .rootfs.diff_ids)
cp -r "$T/tiny" "$T/ours"
check "convert" python3 "$SOURCE_DIR/tests/lazy_layout.py" "$BUILD/unit/esgzconv" "$T/ours" --format zstd:chunked
push_layout "$T/ours" test/tiny:ours || bail "push failed"
peer "$SUITE" skopeo copy --quiet --insecure-policy --dest-tls-verify=false \
	--dest-compress-format zstd:chunked "oci:$T/tiny:latest" "docker://$REGISTRY/test/tiny:theirs" || bail "skopeo of $SUITE failed"
T_PREFIX="ours: "
partial ours
T_PREFIX="theirs: "
partial theirs
T_PREFIX=
# Its trees are not those of others: folders that no entry names have mode 0.
check_same "podman makes the same of ours and theirs" "$T/ours.tree" "$T/theirs.tree"
check "it is a tree" test "$(wc -l <"$T/ours.tree")" -ge 1600
whole
finish
