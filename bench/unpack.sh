#!/bin/bash
# Compares how long this contentd and a containerd (the one that is installed, or with PEER=sid that of Debian sid) take to pull
# and unpack an ordinary gzip image.
#
#	sudo bench/unpack.sh [IMAGE [ROUNDS]]      IMAGE of bench/images.sh, python unless given; 5 rounds
#
# Both run beside each other on the same disk and take turns, in changing order; each pull begins with nothing of the image,
# from a registry on this machine, and ends when a container could be prepared, what it wrote being safe from a loss of
# power as far as that daemon sees to it; before each the disk is synced. A line a pull, then the medians and their ratio.
here=$(dirname "$(readlink -f "$0")")
. "$here/daemons.sh"
require docker-registry skopeo
image=${1:-python} rounds=${2:-5}

layout=$("$here/images.sh" "$image" | tail -n 1) || bail "images.sh failed"
start_registry
push_layout "$layout" "bench/$image:gzip" || bail "the image cannot be pushed"
ref=$REGISTRY/bench/$image:gzip

ours_pull() { "$BIN/contentctl" --address "$OURS" pull --lazy=off "$ref"; }
ours_clean() { "$BIN/contentctl" --address "$OURS" rmi "$ref"; }
theirs_pull() { theirs ctr --address "$THEIRS" images pull --plain-http "$ref"; }
theirs_clean() { theirs ctr --address "$THEIRS" images rm --sync "$ref"; }

# pull SIDE: prints milliseconds
pull() {
	local begin end
	sync
	begin=$(date +%s%N)
	"$1_pull" >"$T/pull.log" 2>&1 || {
		cat "$T/pull.log" >&2
		bail "$1: the pull failed"
	}
	end=$(date +%s%N)
	"$1_clean" >"$T/clean.log" 2>&1 || bail "$1: the image cannot be removed"
	echo $(((end - begin) / 1000000))
}

conditions >&2
for ((i = 0; i < rounds; i++)); do
	sides=(ours theirs)
	((i % 2)) && sides=(theirs ours)
	for side in "${sides[@]}"; do
		ms=$(pull "$side") || exit 1
		echo "$ms" >>"$T/$side.ms"
		printf '%s %s ms\n' "$side" "$ms"
	done
done
median() { sort -n "$T/$1.ms" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
awk -v ours="$(median ours)" -v theirs="$(median theirs)" -v image="$image" \
	'BEGIN { printf "unpack: image %s, contentd %d ms, containerd %d ms, ratio %.2f\n", image, ours, theirs, ours / theirs }'
