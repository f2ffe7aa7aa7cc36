#!/bin/bash
# What gzip indexes cost where they are made: a pull with fetch.gzip_index = "publish" beside one without, and
# `contentctl convert --index-only` of the same image.
#
#	sudo bench/gzip_index.sh [IMAGE [ROUNDS]]      IMAGE of bench/images.sh, python unless given; 5 rounds
#
# Two contentds on the same disk take turns, in changing order; each pull begins with nothing of the image, which is in another
# repository each time, so that no index is there. A line a pull: milliseconds of wall time, and of the CPU time of contentd and
# contentfs; then the medians, and the converter's table.
here=$(dirname "$(readlink -f "$0")")
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
require docker-registry skopeo
[ "$(id -u)" -eq 0 ] || bail "the daemons need root"
T_FINISHED=1 # counts no assertions
image=${1:-python} rounds=${2:-5}

layout=$("$here/images.sh" "$image" | tail -n 1) || bail "images.sh failed"
start_registry

# node NAME VALUE
node() {
	mkdir "$T/$1"
	printf 'root = "%s"\nstate = "%s"\n[grpc]\naddress = "%s"\n[fetch]\ngzip_index = "%s"\n' "$T/$1/root" "$T/$1/state" \
		"$T/$1/contentd.sock" "$2" >"$T/$1/config.toml"
	defer sweep "$T/$1"
	start "$1" "$BIN/contentd" --config "$T/$1/config.toml"
	wait_for 20 "$BIN/contentctl" --address "$T/$1/contentd.sock" info || start_failed "$1"
}
node off off
node publish publish

# CPU time of a node so far, in milliseconds.
cpu() {
	local pid
	for pid in $(pids_of "$T/$1"); do
		cat "/proc/$pid/stat" 2>/dev/null
	done | sed 's/.*) //' | awk -v hz="$(getconf CLK_TCK)" '{ t += $12 + $13 } END { printf "%d", t * 1000 / hz }'
}

# pull NODE REF: "WALL CPU"
pull() {
	local begin end before
	sync
	before=$(cpu "$1")
	begin=$(date +%s%N)
	"$BIN/contentctl" --address "$T/$1/contentd.sock" pull "$2" >"$T/pull.log" 2>&1 || {
		cat "$T/pull.log" >&2
		bail "$1: the pull failed"
	}
	end=$(date +%s%N)
	echo "$(((end - begin) / 1000000)) $(($(cpu "$1") - before))"
	"$BIN/contentctl" --address "$T/$1/contentd.sock" rmi "$2" >"$T/clean.log" 2>&1 || bail "$1: the image cannot be removed"
}

for ((i = 0; i < rounds; i++)); do
	push_layout "$layout" "bench/$image$i:gzip" || bail "the image cannot be pushed"
	sides=(off publish)
	((i % 2)) && sides=(publish off)
	for side in "${sides[@]}"; do
		figures=$(pull "$side" "$REGISTRY/bench/$image$i:gzip") || exit 1
		echo "$figures" >>"$T/$side.ms"
		printf '%s %s\n' "$side" "$figures"
	done
done
median() { cut -d' ' -f"$2" "$T/$1.ms" | sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
printf 'gzip_index: image %s, wall %s ms, with indexes %s ms; CPU %s ms, with indexes %s ms\n' "$image" "$(median off 1)" \
	"$(median publish 1)" "$(median off 2)" "$(median publish 2)"
push_layout "$layout" "bench/$image:alone" || bail "the image cannot be pushed"
"$BIN/contentctl" convert --index-only "$REGISTRY/bench/$image:alone"
