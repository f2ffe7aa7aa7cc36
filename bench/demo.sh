#!/bin/bash
# Shows the main thing on this machine: a real image of several hundred megabytes runs after a fraction of it has come
# over a network.
#
#	sudo bench/demo.sh [--image java|python|shell] [--rtt MS] [--mbit N] [--runs N] [--keep]
#
# Installs what is missing, builds, makes the image (kept for the next time), serves it from a docker-registry on a
# loopback port behind a network of 1 ms and 1 Gbit/s (--rtt, --mbit choose another), as eStargz made by contentctl
# convert and as plain gzip, and runs it from nothing twice: lazily, then pulled plainly. Each time a contentd and a
# contentfs start in an empty temporary root, and the time runs from the exec of contentctl to the first byte of the
# program's own output. --runs repeats that and shows the medians. All is cleaned up at the end, also on Ctrl-C; --keep
# leaves the temporary folder. BUILD=DIR uses a build that is already there.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

image=java rtt=1 mbit=1000 runs=1
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }
while [ $# -gt 0 ]; do
	case $1 in
	--image | --rtt | --mbit | --runs)
		[ $# -ge 2 ] || {
			echo "demo: $1 needs a value" >&2
			exit 2
		}
		printf -v "${1#--}" %s "$2"
		shift 2
		;;
	--keep)
		export KEEP=1
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		echo "demo: unknown option '$1'" >&2
		usage >&2
		exit 2
		;;
	esac
done
case $image in java | python | shell) ;; *)
	echo "demo: no image '$image' (java, python, shell)" >&2
	exit 2
	;;
esac
[[ $runs =~ ^[1-9][0-9]?$ ]] || {
	echo "demo: --runs is a number from 1 to 99" >&2
	exit 2
}
[ "$(id -u)" -eq 0 ] || {
	echo "demo: mounting and containers need root: sudo bench/demo.sh" >&2
	exit 1
}

"$here/../cmake/setup.sh" demo
# /var/tmp is on a disk, where /tmp may be memory.
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
set -eE
T_FINISHED=1 # counts no assertions

say() { printf '%s\n' "$*" >&2; }
trap '[ $? -ge 128 ] || say "demo: failed: ${BASH_COMMAND%%$'"'\n'"'*}"' ERR

build() {
	[ ! -x "$BIN/contentd" ] || [ "$BUILD" = "$SOURCE_DIR/build" ] || return 0
	say "Build"
	(cd "$SOURCE_DIR" && cmake --preset release && cmake --build --preset release -j "$(nproc)") >"$T/build.log" 2>&1 || {
		tail -n 40 "$T/build.log" >&2
		bail "the build failed"
	}
}

# The sum of an image's compressed layers, from its manifest in the registry.
layers_bytes() {
	skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | jq '[.layers[].size] | add'
}

publish() {
	local layout begin
	say "Images"
	layout=$("$here/images.sh" "$image")
	start_registry
	push_layout "$layout" "demo/$image:plain"
	begin=$EPOCHREALTIME
	"$BIN/contentctl" convert --format estargz "oci:$layout:latest" "$REGISTRY/demo/$image:estargz" >"$T/convert.log" 2>&1 || {
		cat "$T/convert.log" >&2
		bail "contentctl convert failed"
	}
	plain_bytes=$(layers_bytes "demo/$image:plain")
	lazy_bytes=$(layers_bytes "demo/$image:estargz")
	say "$(awk -v a="$begin" -v b="$EPOCHREALTIME" -v p="$plain_bytes" -v l="$lazy_bytes" 'BEGIN {
		printf "Converted to eStargz in %.1f s: %.1f MB of gzip became %.1f MB\n", b - a, p / 1e6, l / 1e6 }')"
}

# median FILE-SUFFIX WAY JQ: of a number over the runs; of an even count, the middle between the two
median() {
	cat "$T/$2".*."$1" | jq -s "[.[] | $3 // 0] | sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2"
}

# cold_run WAY TAG LAZY RUN: one start from nothing, in a root of its own; results in $T/WAY.RUN.*
cold_run() {
	local way=$1 tag=$2 lazy=$3 out=$T/$1.$4 dir=$T/d
	mkdir "$dir"
	defer sweep "$dir" # last in, first out: before the folder goes
	start "contentd-$way.$4" "$BIN/contentd" --root "$dir/root" --state "$dir/state" --address "$dir/contentd.sock"
	wait_for 20 "$BIN/contentctl" --address "$dir/contentd.sock" version || start_failed "contentd-$way.$4"
	sync
	netproxy_ask reset >"$T/ask"
	"$BIN/firstbyte" --out "$out.time" --control "$NETPROXY_CONTROL" -- \
		"$BIN/contentctl" --address "$dir/contentd.sock" run --rm --net none --lazy="$lazy" --timing "$out.phases" \
		"$NETPROXY/demo/$image:$tag" >"$out.output" 2>"$out.errors" || {
		cat "$out.errors" "$T/contentd-$way.$4.log" >&2
		bail "the $way run failed (status $?)"
	}
	netproxy_ask stats | jq '.marks[0]' >"$out.net"
	[ -s "$out.output" ] || bail "the program printed nothing"
	stop_pid "$STARTED"
	sweep "$dir"
	rm -rf --one-file-system "$dir"
}

# row LABEL PHASE: milliseconds as contentctl run --timing says
row() {
	printf '  %-28s %12.1f %12.1f\n' "$1" "$(median phases lazy ".ms[\"$2\"]")" "$(median phases plain ".ms[\"$2\"]")"
}

report() {
	local ready plain fetched
	ready=$(median time lazy .first_byte_ms)
	plain=$(median time plain .first_byte_ms)
	fetched=$(median net lazy .to_client_bytes)
	printf '\n%s: "%s"\n' "$image" "$(cat "$T/lazy.1.output")"
	printf 'network: %s ms round trip, %s Mbit/s' "$rtt" "$mbit"
	[ "$runs" -eq 1 ] || printf '; medians of %s runs' "$runs"
	printf '\n\n  %-28s %12s %12s\n' "" "lazily" "plainly"
	row "resolve             ms" resolve
	row "open layers         ms" "open layers"
	row "fetch and unpack    ms" unpack
	row "mount               ms" mount
	row "create              ms" create
	row "start               ms" start
	row "ready               ms" ready
	printf '  %-28s %12.1f %12.1f\n' "from exec to ready  ms" "$ready" "$plain"
	printf '  %-28s %12.0f %12.0f\n' "fetched until then  bytes" "$fetched" "$(median net plain .to_client_bytes)"
	printf '  %-28s %12d %12d\n' "compressed layers   bytes" "$lazy_bytes" "$plain_bytes"
	printf '  %-28s %12.0f %12.0f\n\n' "requests" "$(median net lazy .requests)" "$(median net plain .requests)"
	awk -v r="$ready" -v p="$plain" -v f="$fetched" -v n="$lazy_bytes" 'BEGIN {
		printf "ready in %.0f ms, fetched %d of %d bytes (%.1f %%), plain pull %.0f ms\n", r, f, n, 100 * f / n, p }'
}

build
publish
start_netproxy "$REGISTRY" --rtt-ms "$rtt" --mbit "$mbit"
for ((run = 1; run <= runs; run++)); do
	say "Cold run $run of $runs: lazily, then plainly"
	cold_run lazy estargz auto "$run"
	cold_run plain plain off "$run"
done
report
