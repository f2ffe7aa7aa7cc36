#!/bin/bash
# Compares two cold starts of one eStargz image by a real containerd: with contentd as its snapshotter (proxy plugin, layers
# on demand), and with its own overlayfs (everything is downloaded and unpacked first).
#
#	sudo bench/proxy.sh [--image java|python|shell] [--rtt MS] [--mbit N] [--runs N] [--suite host|trixie|sid] [--json]
#
# Image, registry and network are those of demo.sh. Each start has daemons of its own with empty roots, which run before the
# time begins; then an image is pulled (by ctr-remote, which sets the labels; by ctr) and run by ctr, and the time goes to
# the first byte of the program's own output. The two take turns; medians of the runs. --suite: the containerd and ctr of
# a newer Debian (tests/peers.sh). --json prints an object instead of the table. BUILD=DIR uses another build.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

image=java rtt=1 mbit=1000 runs=1 suite=host json=
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }
while [ $# -gt 0 ]; do
	case $1 in
	--image | --rtt | --mbit | --runs | --suite)
		[ $# -ge 2 ] || {
			echo "proxy: $1 needs a value" >&2
			exit 2
		}
		printf -v "${1#--}" %s "$2"
		shift 2
		;;
	--json)
		json=1
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		echo "proxy: unknown option '$1'" >&2
		usage >&2
		exit 2
		;;
	esac
done
case $image:$suite in java:* | python:* | shell:*) ;; *)
	echo "proxy: no image '$image' (java, python, shell)" >&2
	exit 2
	;;
esac
[[ $runs =~ ^[1-9][0-9]?$ ]] || {
	echo "proxy: --runs is a number from 1 to 99" >&2
	exit 2
}
[ "$(id -u)" -eq 0 ] || {
	echo "proxy: mounting and containers need root: sudo bench/proxy.sh" >&2
	exit 1
}
. "$here/common.sh"
"$here/../cmake/setup.sh" demo test
share_mounts
peer=()
[ "$suite" = host ] || peer=("$here/../tests/peers.sh" "$suite")
ns=${T##*.}-bench
defer eval "find /sys/fs/cgroup -depth -type d -path '*/$ns' -exec rmdir {} + 2>/dev/null || true"

start_containerd() {
	mkdir "$1"
	cat >"$1/config.toml" <<-END
		version = 2
		root = "$1/root"
		state = "$1/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
			"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
			"io.containerd.snapshotter.v1.aufs", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp",
			"io.containerd.internal.v1.tracing"]
		[grpc]
		address = "$1/sock"
		[proxy_plugins.contentd]
		type = "snapshot"
		address = "$T/d/contentd.sock"
	END
	start containerd "${peer[@]}" containerd --config "$1/config.toml"
	wait_for 20 ctr --address "$1/sock" version || start_failed containerd
}

# cold_run WAY RUN: one start from nothing; results in $T/WAY.RUN.*
cold_run() {
	local way=$1 out=$T/$1.$2 ref=$NETPROXY/demo/$image:estargz snapshotter=overlayfs begin contentd=
	local client=(--address "$T/c/sock" --namespace "$ns") pull=("${peer[@]}" ctr)
	mkdir "$T/d"
	defer sweep "$T/c"
	defer sweep "$T/d"
	if [ "$way" = lazy ]; then
		start contentd "$BIN/contentd" --root "$T/d/root" --state "$T/d/state" --address "$T/d/contentd.sock"
		contentd=$STARTED
		wait_for 20 "$BIN/contentctl" --address "$T/d/contentd.sock" info || start_failed contentd
		snapshotter=contentd pull=(ctr-remote)
	fi
	start_containerd "$T/c"
	containerd=$STARTED
	pull+=("${client[@]}" images "$([ "$way" = lazy ] && echo rpull || echo pull)" --snapshotter "$snapshotter" --plain-http)
	sync
	netproxy_ask reset >"$T/ask"
	begin=$EPOCHREALTIME
	# shellcheck disable=SC2016 # the inner shell's
	"$BIN/firstbyte" --out "$out.time" --control "$NETPROXY_CONTROL" -- bash -c '
		n=$1 file=$2 ref=$3
		shift 3
		"${@:1:n}" "$ref" >&2 && echo "$EPOCHREALTIME" >"$file" && exec "${@:n+1}" "$ref" demo' - "${#pull[@]}" "$out.pulled" \
		"$ref" "${pull[@]}" "${peer[@]}" ctr "${client[@]}" run --rm --snapshotter "$snapshotter" --fifo-dir "$T/c/fifo" \
		--cgroup "/$ns/demo" >"$out.output" 2>"$out.errors" || {
		cat "$out.errors" "$T/containerd.log" >&2
		bail "the $way run failed (status $?)"
	}
	[ -s "$out.output" ] || bail "the program printed nothing"
	netproxy_ask stats | jq '.marks[0]' >"$out.net"
	awk -v a="$begin" -v b="$(cat "$out.pulled")" 'BEGIN { printf "{\"pulled_ms\": %.1f}\n", (b - a) * 1000 }' >"$out.pull"
	stop_pid "$containerd"
	sweep "$T/c"
	[ -z "$contentd" ] || stop_pid "$contentd"
	sweep "$T/d"
	rm -rf --one-file-system "$T/c" "$T/d"
}

# numbers WAY: an object of medians
numbers() {
	jq -n --argjson pulled "$(median pull "$1" .pulled_ms)" --argjson ready "$(median time "$1" .first_byte_ms)" \
		--argjson bytes "$(median net "$1" .to_client_bytes)" --argjson requests "$(median net "$1" .requests)" \
		'{pulled_ms: $pulled, ready_ms: $ready, bytes: $bytes, requests: $requests}'
}

report() {
	jq -n --arg image "$image" --argjson rtt "$rtt" --argjson mbit "$mbit" --argjson runs "$runs" \
		--arg containerd "$("${peer[@]}" containerd --version | cut -d' ' -f3)" --arg contentd "$("$BIN/contentd" --version)" \
		--argjson layers "$lazy_bytes" --argjson lazy "$(numbers lazy)" --argjson full "$(numbers full)" \
		'{image: $image, rtt_ms: $rtt, mbit: $mbit, runs: $runs, containerd: $containerd, contentd: $contentd,
		  layers_bytes: $layers, lazy: $lazy, full: $full}' >"$T/report"
	[ -z "$json" ] || {
		cat "$T/report"
		return
	}
	jq -r --arg said "$(cat "$T/lazy.1.output")" '
		def cell: tostring | (" " * ([13 - length, 1] | max)) + .;
		def number($key): if $key | endswith("_ms") then round else . end | cell;
		def line($name; $key): "  " + $name + (.lazy[$key] | number($key)) + (.full[$key] | number($key));
		"",
		"\(.image): \"\($said)\"",
		"containerd \(.containerd), \(.contentd); \(.rtt_ms) ms round trip, \(.mbit) Mbit/s; medians of \(.runs) run(s)",
		"",
		"                                    contentd    overlayfs",
		line("pulled              ms    "; "pulled_ms"),
		line("from pull to ready  ms    "; "ready_ms"),
		line("fetched until then  bytes "; "bytes"),
		line("requests                  "; "requests"),
		"",
		"ready in \(.lazy.ready_ms | round) ms instead of \(.full.ready_ms | round), with " +
			"\(.lazy.bytes) of \(.layers_bytes) bytes (\(.lazy.bytes * 1000 / .layers_bytes | round / 10) %)"' "$T/report"
}

build
publish
start_netproxy "$REGISTRY" --rtt-ms "$rtt" --mbit "$mbit"
for ((run = 1; run <= runs; run++)); do
	say "Cold run $run of $runs: on demand, then in full"
	cold_run lazy "$run"
	cold_run full "$run"
done
report
