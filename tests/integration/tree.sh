#!/bin/bash
# The tree in a container is the tree of the image as umoci unpacks it, path by path, lazily and plainly pulled; and
# tools that copy it while nothing has been fetched yet, sparse-aware ones as well, get the right bytes.
. "$(dirname "$0")/../node.sh"
require rsync tar

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
mapfile -t layouts < <("$SOURCE_DIR/bench/images.sh" shell python)
[ ${#layouts[@]} -eq 2 ] || bail "images.sh failed"
start_registry

# The hidden files that mark a lazy layer are no part of the image.
list() { tree_list --no-dir-times "$1" | grep -v '^\.\(no\.\)\?prefetch\.landmark ' >"$2"; }

prepare() {
	publish "$2" "test/$1"
	reference_tree "$2" "$T/$1.ref"
	list "$T/$1.ref/rootfs" "$T/$1.want"
}

# compare NAME [CMD...]: lazily and plainly pulled
compare() {
	local name=$1 way
	shift
	for way in lazy plain; do
		start_contentd "$name-$way" 'background = "off"'
		check "$name, $way: pull" ctl pull "$REGISTRY/test/$name:$way"
		check_eq "$name, $way: layers are $way" "$(info '[.layers[].lazy] | unique | map(tostring) | join(" ")')" \
			"$([ $way = lazy ] && echo true || echo false)"
		check "$name, $way: start" sleeper tree "$REGISTRY/test/$name:$way" "$@"
		list "$(container_root tree)" "$T/$name.$way"
		check_same "$name, $way: the tree is umoci's" "$T/$name.$way" "$T/$name.want"
		check_eq "$name, $way: no read failed" "$(info .contentfs.readErrors)" 0
		retire_contentd
	done
}

# Copies out of a cold tree: a file that is not here yet must not look sparse or empty.

by_cp() { cp -a "$root/data" "$T/copy"; }
by_sparse_cp() { cp -a --sparse=always "$root/data" "$T/copy"; }
by_tar() {
	mkdir "$T/copy"
	tar -C "$root/data" --sparse --xattrs --xattrs-include='*' -cf "$T/copy.tar" . &&
		tar -C "$T/copy" --xattrs --xattrs-include='*' -xpf "$T/copy.tar"
}
by_rsync() { rsync -aHXS "$root/data/" "$T/copy/"; }

# From nothing each time.
copy() {
	local how=$1
	start_contentd "cold-$how" 'background = "off"'
	ctl pull "$REGISTRY/test/tiny:lazy" >"$T/out" 2>&1
	sleeper cold "$REGISTRY/test/tiny:lazy" || bail "no container"
	root=$(container_root cold)
	check "$how: nothing is here yet" test "$(info '[.layers[].presentBytes] | add')" -lt \
		"$(info '[.layers[].contentBytes] | add / 2 | floor')"
	check "$how: runs" "by_$how"
	tree_list --no-dir-times "$T/copy" >"$T/data.got"
	check_same "$how: right bytes" "$T/data.got" "$T/data.want"
	rm -rf "$T/copy"
	retire_contentd
}

prepare tiny "$T/tiny"
prepare shell "${layouts[0]}"
prepare python "${layouts[1]}"
tree_list --no-dir-times "$T/tiny.ref/rootfs/data" >"$T/data.want"
everything() {
	local how
	compare tiny
	compare shell
	# Its entry point is python3, which must not write into its own tree here.
	compare python -BIS -c 'import time; time.sleep(100000)'
	for how in cp sparse_cp tar rsync; do
		copy "$how"
	done
}
at_levels everything
finish
