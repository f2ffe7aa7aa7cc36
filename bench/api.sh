#!/bin/bash
# Compares the API of this contentd with that of the containerd that is installed: latency and throughput of calls,
# the memory of the idle daemons, the time of a call from the command line.
#
#	sudo bench/api.sh [ARG...]        e.g. --op lease --clients 8 --seconds 1 --json: see build/bin/api_bench --help
#
# Both run beside each other and take turns, round by round: see daemons.sh. BUILD=DIR uses another build.
here=$(dirname "$(readlink -f "$0")")
. "$here/daemons.sh"

# kB of memory that the process has for itself, and its share of what it has in common.
pss() { awk '/^Pss:/ {print $2}' "/proc/$1/smaps_rollup"; }
memory() { printf '%-34s contentd %6d kB   containerd %6d kB\n' "$1" "$(pss "$CONTENTD")" "$(pss "$CONTAINERD")"; }

conditions >&2
memory "PSS, idle" >&2
for command in version images; do
	printf '\n%s\n' "$command" >&2
	"$BIN/api_bench" --exec --rounds 100 "contentctl=$BIN/contentctl --address $OURS $command" \
		"ctr=ctr --address $THEIRS ${command/images/images ls}" >&2 || exit 1
done
printf '\n' >&2
"$BIN/api_bench" "$@" "contentd=$OURS" "containerd=$THEIRS" || exit 1
memory "PSS after that" >&2
sleep 15
memory "PSS 15 s later" >&2
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
