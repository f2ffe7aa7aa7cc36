#!/bin/bash
# Time and size of a whole image made lazy: contentctl convert beside ctr-remote image convert, one after the other.
#
#	sudo bench/convert.sh [IMAGE] [PAIRS]     an image of bench/images.sh (java, 480 MB of tar), 3 pairs
#
# Both from disk to disk with all CPUs and their own defaults: ours from one OCI layout into another; theirs within the
# store of a containerd (Debian trixie's) that has the image. Sizes are of the layers. A line for each run, then the
# quotients of the medians. In a folder below /var/tmp, which is removed at the end. BUILD=DIR uses another build.
here=$(dirname "$(readlink -f "$0")")
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
[ "$(id -u)" -eq 0 ] || bail "containerd needs root"
# shellcheck disable=SC2034 # lib.sh's: no assertions are counted
T_FINISHED=1
image=${1:-java}
pairs=${2:-3}
source=$("$here/images.sh" "$image") || bail "no image $image"
peer trixie true || bail "no root of trixie"

start_ctr_remote
tar -C "$source" -cf "$T/source.tar" .
remote images import --base-name example.com/bench "$T/source.tar" >/dev/null || bail "import failed"
rm "$T/source.tar"

# layers FOLDER: bytes of the layers of the one image in an OCI layout
layers() {
	local manifest
	manifest=$(jq -r '.manifests[0].digest' "$1/index.json")
	jq '[.layers[].size] | add' "$1/blobs/${manifest/://}"
}
theirs_layers() {
	remote images export "$T/out.tar" example.com/bench:lazy
	rm -rf "$T/out" && mkdir "$T/out" && tar -C "$T/out" -xf "$T/out.tar" && layers "$T/out"
}
# timed NAME COMMAND...: appends the seconds to the file NAME
timed() {
	local name=$1
	shift
	sync
	/usr/bin/time -a -o "$T/$name" -f %e "$@" >/dev/null || bail "$name failed"
}
median() { sort -n "$T/$1" | awk '{v[NR] = $1} END {print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2}'; }

printf 'load %s, %s CPUs, image %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$image"
for ((i = 1; i <= pairs; i++)); do
	rm -rf "$T/ours.d"
	timed ours "$BIN/contentctl" convert --quiet --format estargz "oci:$source:latest" "oci:$T/ours.d:latest"
	timed theirs "$here/../tests/peers.sh" trixie ctr-remote --address "$T/c/sock" images convert --oci --estargz \
		example.com/bench:latest example.com/bench:lazy
	[ "$i" != 1 ] || sizes=("$(layers "$T/ours.d")" "$(theirs_layers)")
	remote images rm example.com/bench:lazy >/dev/null
	printf 'pair %d: ours %s s, ctr-remote %s s\n' "$i" "$(tail -1 "$T/ours")" "$(tail -1 "$T/theirs")"
done
printf 'layers: ours %d bytes, ctr-remote %d bytes\n' "${sizes[@]}"
awk -v o="$(median ours)" -v t="$(median theirs)" -v so="${sizes[0]}" -v st="${sizes[1]}" \
	'BEGIN {printf "ours takes %.2f of the time, and %.3f of the bytes: %.1f x faster\n", o / t, so / st, t / o}'
