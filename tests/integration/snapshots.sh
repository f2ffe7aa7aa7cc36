#!/bin/bash
# The snapshot suite against a daemon with its data plane, on nothing and on an image's layers; Debian's ctr, which unpacks
# layers by itself (fetch into the content store, then Prepare, Diff.Apply and Commit for each), in all compressions, and
# its snapshots and content commands; a container's changes as a layer, in an image that is pulled and run again.
. "$(dirname "$0")/../node.sh"
require setfattr getfattr setcap zstd

SUITE=$BUILD/unit/contentd_snapshot_suite_test
[ -x "$SUITE" ] || bail "$SUITE is not built"
start_registry
# skopeo would compress what is not.
push_as_is() { push_layout "$1" "$2" --preserve-digests || bail "push failed"; }

seed=1
for compression in gzip zstd none; do
	make_tiny_image --seed $seed --compression $compression "$T/$compression" && make_tiny_image --seed $seed \
		--compression none "$T/plain.$compression" || bail "tiny_image.py failed"
	push_as_is "$T/$compression" test/$compression:latest
	reference_tree "$T/plain.$compression" "$T/reference.$compression"
	seed=$((seed + 1))
done
make_tiny_image --seed 7 "$T/lazy" || bail "tiny_image.py failed"
publish "$T/lazy" test/lazy
image=$REGISTRY/test/gzip:latest
lazy=$REGISTRY/test/lazy:lazy
layer=application/vnd.oci.image.layer.v1.tar
fifos=(--fifo-dir "$T/fifo")
mkdir "$T/fifo" "$T/mnt"

# Times of directories that no layer has an entry for are those of whoever made them.
listing() { tree_list "$1" | grep -v '^implied'; }
no_dir_times() { sed 's/^\([^ ]* dir .*\) mtime=[0-9.]*/\1/' "$1"; }
for compression in gzip zstd none; do
	listing "$T/reference.$compression/rootfs" >"$T/want.$compression"
done

manifest_of() { ctr_ images ls "name==$1" | awk 'NR == 2 {print $3}'; }
config_of() { ctr_ content get "$(manifest_of "$1")" | jq -r .config.digest; }
# The chain id of an image that is unpacked here.
chain_of() { ctr_ content ls | grep "^$(config_of "$1")" | sed 's/.*gc.ref.snapshot.overlayfs=\(sha256:[0-9a-f]*\).*/\1/'; }
directories() { find "$CONTENTD/root/snapshots" -mindepth 1 -maxdepth 1 -regex '.*/[0-9]+' | wc -l; }

suite() {
	local out=$T/suite
	CONTENTD_TEST_ADDRESS=$CONTENTD/contentd.sock CONTENTD_TEST_NAMESPACE=$CONTENTD_NAMESPACE CONTENTD_TEST_BASE=$2 \
		"$SUITE" >"$out" 2>&1
	check_match "the suite on $1" "$(tail -n 1 "$out")" '^\[  PASSED  \] [0-9]+ test'
	grep -E 'ERROR|LINE' "$out" | sed 's/^/     /'
}

# Mounts an image, compares the tree.
compare_mount() {
	check "$1: images mount" ctr_ images mount "$2" "$T/mnt"
	listing "$T/mnt" >"$T/got"
	check_same "$1: the tree" "$T/got" "$3"
	check_fails "$1: read-only" touch "$T/mnt/new"
	check "$1: images unmount" ctr_ images unmount --rm "$T/mnt"
}

client_unpacks() {
	local compression ref
	for compression in gzip zstd none; do
		ref=$REGISTRY/test/$compression:latest
		check "pull of $compression" ctr_ images pull --plain-http "$ref"
		check_eq "$compression: no layer has files of its own" "$(directories)" 0
		compare_mount "$compression" "$ref" "$T/want.$compression"
	done
	check_eq "each layer says what it is uncompressed" "$(ctr_ content ls | grep -c containerd.io/uncompressed=)" \
		"$(jq '.layers | length * 3' <(ctr_ content get "$(manifest_of "$image")"))"
	check_eq "the same file is one object, whatever it came in" "$(find "$CONTENTD/root/objects" -type f | wc -l)" "$files"
	check_eq "an image that is unpacked runs" "$(ctr_ run --rm "${fifos[@]}" "$image" once 2>&1)" "hello from tiny"
	ctl pull "$lazy" >"$T/out" 2>&1 || bail "$(cat "$T/out")"
}

commands() {
	local top base
	top=$(chain_of "$image")
	base=$(ctr_ snapshots ls | awk '$2 == "Committed" {print $1}' | head -n 1)
	check_match "snapshots info" "$(ctr_ snapshots info "$top" | jq -r .Kind)" '^Committed$'
	check "snapshots label" ctr_ snapshots label "$top" colour=blue
	check_eq "snapshots info: the label" "$(ctr_ snapshots info "$top" | jq -r .Labels.colour)" blue
	check_match "snapshots usage: layers, shared or not" "$(ctr_ snapshots usage -b "$base" | awk 'NR == 2 {print $2, $3}')" '^[1-9][0-9]+ [1-9][0-9]*$'
	check_match "snapshots prepare" "$(ctr_ snapshots prepare --mounts work "$top" 2>&1; ctr_ snapshots mounts "$T/mnt" work)" 'mount -t overlay '
	eval "$(ctr_ snapshots mounts "$T/mnt" work)" || bail "what snapshots mounts says fails"
	listing "$T/mnt" >"$T/got"
	check_same "what snapshots mounts says is the image" "$T/got" "$T/want.gzip"
	echo more >"$T/mnt/more"
	umount "$T/mnt"
	check "snapshots commit" ctr_ snapshots commit made work
	check_match "snapshots tree" "$(ctr_ snapshots tree)" 'made'
	check "snapshots view" ctr_ snapshots view look made
	eval "$(ctr_ snapshots mounts "$T/mnt" look)"
	check_eq "a view of it has what was written" "$(cat "$T/mnt/more")" more
	umount "$T/mnt"
	check_fails "snapshots rm of a parent" ctr_ snapshots rm made
	check "snapshots rm" ctr_ snapshots rm look
	check "snapshots rm of what had a child" ctr_ snapshots rm made
	check "content fetch" ctr_ content fetch --plain-http "$REGISTRY/test/none:latest"
	check "snapshots unpack" eval 'ctr_ snapshots unpack "$(manifest_of "$REGISTRY/test/none:latest")"'
	check_match "an unknown snapshotter" "$(ctr_ snapshots --snapshotter nothing ls 2>&1)" 'not loaded|invalid'
}

# What a container can do to its root that a layer has to say; on the host's side of its mount.
change() {
	local root=$1 long
	long=$(printf 'long%.0s' {1..40})
	mkdir -p "$root/new/deep/$long/$long" "$root/data/emptied"
	echo new >"$root/new/file"
	echo long >"$root/new/deep/$long/$long/$long"
	ln "$root/new/file" "$root/new/deep/hard"
	ln -s ../file "$root/new/deep/soft"
	mkfifo "$root/new/pipe"
	mknod "$root/new/null" c 1 3
	mknod "$root/new/disk" b 7 300
	truncate -s 3M "$root/new/sparse"
	echo end >>"$root/new/sparse"
	printf middle | dd of="$root/new/sparse" bs=1 seek=1000000 conv=notrunc status=none
	setfattr -n user.mark -v marked "$root/new/file"
	setfattr -n trusted.note -v kept "$root/new/file"
	cp "$root/bin/busybox" "$root/new/tool"
	setcap cap_net_raw+ep "$root/new/tool"
	touch -d '2001-02-03 04:05:06.123456789' "$root/new/deep/hard"
	touch -h -d '1969-12-31 23:59:58.25' "$root/new/deep/soft"
	chown 70000:3000000 "$root/new/null"
	chmod 4711 "$root/new/tool"
	rm "$root/etc/group"
	rm -r "$root/many"
	mkdir "$root/many"
	echo one >"$root/many/only"
	rm -r "$root/bin/sleep"
	mkdir "$root/bin/sleep"
	chmod 0700 "$root/etc"
	python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$root/new/sock" || true
	find "$root/new" "$root/many" "$root/bin/sleep" "$root/data/emptied" -type d -exec touch -d '2020-01-01 00:00:01.5' {} +
}

committed() {
	local type suffix name=$1 from=$2 layout=$3
	check "$name: a container to be changed" ctr_ run -d "$from" "c-$name" /bin/sh -c 'while :; do sleep 1000 & wait; done'
	change "$(container_root "c-$name")"
	listing "$(container_root "c-$name")" | grep -v -e ' socket ' -e '^etc/\(hosts\|resolv.conf\) ' >"$T/want.$name"
	for suffix in +gzip +zstd ''; do
		type=$layer$suffix
		check "$name: snapshots diff as $type" eval 'ctr_ snapshots diff --media-type "$type" --label "kept=yes" --keep "c-$name" >"$T/diff"'
		check_match "$name: the blob$suffix is kept, with its label" "$(ctr_ content ls | grep "^sha256:$(sha256sum "$T/diff" | cut -d' ' -f1)")" 'kept=yes'
		rm -rf "$T/made"
		python3 "$SOURCE_DIR/tests/add_layer.py" --media-type "$type" "$layout" "$T/diff" "$T/made" || bail "add_layer.py failed"
		push_as_is "$T/made" "test/$name:made"
		check "$name: pull of the image that has it" ctr_ images pull --plain-http "$REGISTRY/test/$name:made"
		compare_mount "$name: with $type" "$REGISTRY/test/$name:made" "$T/want.$name"
	done
	check_eq "$name: it runs" "$(ctr_ run --rm "${fifos[@]}" "$REGISTRY/test/$name:made" "r-$name" /bin/cat /new/file 2>&1)" new
	check_match "$name: the layer is not larger than what was changed" "$(tar -tf "$T/diff" | grep -cE '^(data|usr|root)/.')" '^1$'
	ctr_ tasks kill --signal SIGKILL "c-$name" && wait_for 10 eval 'ctr_ tasks ls | grep -q "^c-$name .*STOPPED"'
	check "$name: containers rm" eval 'ctr_ tasks rm "c-$name"; ctr_ containers rm "c-$name"'
}

# The lowest layer as files, as a client makes it that mounts and writes by itself: what is pulled above becomes files, too.
mixed() {
	local own=$CONTENTD_NAMESPACE config lowest blob
	CONTENTD_NAMESPACE=$own-mixed
	config=$T/plain.zstd/$(jq -r '.manifests[0].digest | "blobs/" + sub(":"; "/")' "$T/plain.zstd/index.json")
	blob=$T/plain.zstd/blobs/$(jq -r '.layers[0].digest | sub(":"; "/")' "$config")
	config=$T/plain.zstd/blobs/$(jq -r '.config.digest | sub(":"; "/")' "$config")
	lowest=$(jq -r '.rootfs.diff_ids[0]' "$config")
	ctr_ snapshots prepare by-hand >"$T/out" 2>&1
	eval "$(ctr_ snapshots mounts "$T/mnt" by-hand)"
	tar -xpf "$blob" --numeric-owner --xattrs --xattrs-include='*' -C "$T/mnt"
	umount "$T/mnt"
	check "mixed: snapshots commit" ctr_ snapshots commit "$lowest" by-hand
	check "mixed: a pull above it" ctl pull "$REGISTRY/test/zstd:latest"
	# tar makes links last, and directories are as late as that.
	check "mixed: images mount" ctr_ images mount "$REGISTRY/test/zstd:latest" "$T/mnt"
	listing "$T/mnt" >"$T/got"
	check_same "mixed: the tree" <(no_dir_times "$T/got") <(no_dir_times "$T/want.zstd")
	check "mixed: images unmount" ctr_ images unmount --rm "$T/mnt"
	check_eq "mixed: it runs" "$(ctl run --rm "$REGISTRY/test/zstd:latest" 2>&1)" "hello from tiny"
	check_eq "mixed: all three layers are files" "$(directories)" "$(($1 + 3))"
	CONTENTD_NAMESPACE=$own
}

everything() {
	start_contentd snapshots
	client_unpacks
	commands
	suite "nothing" ""
	suite "layers that a client has unpacked" "$(chain_of "$image")"
	suite "a lazy image" "$(chain_of "$lazy")"
	mixed "$(directories)"
	committed plain "$image" "$T/gzip"
	committed lazy "$lazy" "$T/lazy"
	check_eq "no mount of ours is left to be seen" "$(grep -c "$CONTENTD/state/diff" /proc/self/mountinfo)" 0
	check_eq "nor a scratch directory" "$(find "$CONTENTD/state/diff" -mindepth 1 | wc -l)" 0
	retire_contentd
}

# Regular files of the layers, by content; empty ones are no objects.
files=$(python3 - "$T"/plain.*/blobs/sha256/* <<-'END'
	import hashlib, sys, tarfile
	found = set()
	for path in sys.argv[1:]:
	    if not tarfile.is_tarfile(path):
	        continue
	    archive = tarfile.open(path)
	    for entry in archive:
	        if entry.isreg() and entry.size:
	            found.add(hashlib.sha256(archive.extractfile(entry).read()).hexdigest())
	print(len(found))
END
)

at_levels everything
finish
