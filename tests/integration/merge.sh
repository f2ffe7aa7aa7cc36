#!/bin/bash
# Random stacks of layers: our merged tree, mounted, is what overlayfs makes of the layers as GNU tar extracts them, path by
# path with all attributes to the nanosecond.
#
#	tests/integration/merge.sh [STACKS [FIRST]]
#
# The same number is the same stack; what differs is shown with it, and KEEP=1 keeps its layers and its image.
TMPDIR=${TMPDIR:-/var/tmp} # on a disk: file systems in memory cannot back a mount of EROFS
. "$(dirname "$0")/../lib.sh"
require tar unshare python3 fsck.erofs
stacks=${1:-60} first=${2:-1}

at_once=20
for ((i = first; i < first + stacks; i += at_once)); do
	last=$((i + at_once <= first + stacks ? i + at_once - 1 : first + stacks - 1))
	mapfile -t seeds < <(seq "$i" "$last")
	"$BUILD/unit/merge_stacks" "$T" "${seeds[@]}" || bail "merge_stacks failed"
	check "stacks $i to $last: ours, and tar's over one another" \
		unshare --mount --propagation private python3 "$SOURCE_DIR/tests/merge_oracle.py" "$T" "${seeds[@]}"
done
finish
