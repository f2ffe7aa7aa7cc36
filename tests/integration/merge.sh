#!/bin/bash
# Random stacks of layers: our merged tree, mounted, is what overlayfs makes of the layers as GNU tar extracts them, path by
# path with all attributes to the nanosecond. Each stack twice: with tars as many writers have them, put together by hand, and
# as Python's tarfile writes the same entries.
#
#	tests/integration/merge.sh [STACKS [FIRST]]
#
# The same number is the same stack; what differs is shown with it, and KEEP=1 keeps its layers and its image.
TMPDIR=${TMPDIR:-/var/tmp} # on a disk: file systems in memory cannot back a mount of EROFS
. "$(dirname "$0")/../lib.sh"
require tar unshare python3 fsck.erofs
stacks=${1:-60} first=${2:-1}

# HOW; the stacks' seeds are in `seeds`, what belongs to them is in a directory of that name.
compare() {
	check "stacks ${seeds[0]} to ${seeds[-1]}, $1: ours, and tar's over one another" \
		unshare --mount --propagation private python3 "$SOURCE_DIR/tests/merge_oracle.py" "$T/$1" "${seeds[@]}"
}

mkdir "$T/by-hand" "$T/tarfile"
at_once=20
for ((i = first; i < first + stacks; i += at_once)); do
	last=$((i + at_once <= first + stacks ? i + at_once - 1 : first + stacks - 1))
	mapfile -t seeds < <(seq "$i" "$last")
	"$BUILD/unit/merge_stacks" "$T/by-hand" "${seeds[@]}" || bail "merge_stacks failed"
	compare by-hand
	"$BUILD/unit/merge_stacks" --tars "$T/tarfile" "${seeds[@]}" || bail "merge_stacks --tars failed"
	python3 "$SOURCE_DIR/tests/merge_tarfile.py" "$T/tarfile" "${seeds[@]}" || bail "merge_tarfile.py failed"
	"$BUILD/unit/merge_stacks" --trees "$T/tarfile" "${seeds[@]}" || bail "merge_stacks --trees failed"
	compare tarfile
done
finish
