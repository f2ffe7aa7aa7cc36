#!/bin/bash
# Builds the fuzz targets (libFuzzer, ASan, UBSan) and runs each for a while.
#
#	tests/fuzz/run.sh [--build DIR] [SECONDS [TARGET...]]           each for that long; default: a minute, all
#	tests/fuzz/run.sh [--build DIR] --total SECONDS [TARGET...]     all together for that long, in equal parts
#
# A line for each, also in build/fuzz/summary with its time: seconds, executions, executions per second, places covered
# and how many of them are new, crashes. Beside it in found/TARGET what libFuzzer said, and the inputs it found, with
# which the next run goes on; crashes/TARGET has inputs that crash, or take too long (20 s) or too much memory (2 GB).
# Exit status 1 if there are any, 2 for what cannot be run. --build: of a build there is, as it is.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

die() {
	echo "fuzz: $*" >&2
	exit 2
}
is_number() { [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; }

build= total= seconds=60
while [ $# -gt 0 ]; do
	case $1 in
	--build)
		build=${2:-}
		[ -d "$build/fuzz" ] || die "no fuzz targets in '$build'"
		shift 2
		;;
	--total)
		is_number "${2:-}" || die "--total wants seconds, not '${2:-}'"
		total=$2
		shift 2
		;;
	-h | --help)
		sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' tests/fuzz/run.sh
		exit
		;;
	-*) die "no option $1" ;;
	*) break ;;
	esac
done
if [ -z "$total" ] && [ $# -gt 0 ]; then
	is_number "$1" || die "the first argument is the seconds for each target, not '$1'"
	seconds=$1
	shift
fi

if [ -z "$build" ]; then
	build=build/fuzz
	cmake --preset fuzz >/dev/null
	if [ $# -gt 0 ]; then
		cmake --build --preset fuzz --target "$@"
	else
		cmake --build --preset fuzz
	fi
fi
if [ $# -eq 0 ]; then
	readarray -t all < <(find "$build/fuzz" -maxdepth 1 -name 'fuzz_*' -type f -executable -printf '%f\n' | sort)
	set -- "${all[@]}"
fi
[ $# -gt 0 ] || die "no targets in $build/fuzz"
[ -z "$total" ] || seconds=$((total / $#))
[ "$seconds" -gt 0 ] || die "$total s are less than one for each of $# targets"

# The last number behind a word of libFuzzer's.
last() { grep -oE "$1 *[0-9]+" "$log" | tail -n 1 | grep -oE '[0-9]+$' || echo 0; }

# run TARGET: its line; false if it did not end well.
run() {
	local target=$1 corpus=tests/fuzz/corpus/${1#fuzz_} found=$build/found/$1 crashes=$build/crashes/$1 before n
	local log=$found.log
	[ -x "$build/fuzz/$target" ] || die "no target $target"
	mkdir -p "$found" "$crashes"
	[ -d "$corpus" ] || corpus=
	n=$(find "$crashes" -type f | wc -l)
	"$build/fuzz/$target" -max_total_time="$seconds" -artifact_prefix="$crashes/" -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 "$found" ${corpus:+"$corpus"} >"$log" 2>&1 || failed=1
	n=$(($(find "$crashes" -type f | wc -l) - n))
	before=$(grep -m 1 -E 'INITED|DONE' "$log" | grep -oE 'cov: *[0-9]+' | grep -oE '[0-9]+$' || echo 0)
	printf '%-24s %5d s %11d executions %8d/s %6d covered %+6d new %3d crashes\n' "$target" "$seconds" \
		"$(last 'stat::number_of_executed_units:')" "$(last 'stat::average_exec_per_sec:')" "$(last cov:)" \
		$(($(last cov:) - before)) "$n"
	[ -z "$failed" ]
}

failed=
for target; do
	well=1
	line=$(run "$target") || well=
	printf '%s\n' "$line"
	printf '%s %s\n' "$(date -u +%FT%TZ)" "$line" >>"$build/summary"
	[ -n "$well" ] || {
		failed=1
		echo "fuzz: $target: see $build/found/$target.log"
		tail -n 30 "$build/found/$target.log"
	}
done
[ -z "$failed" ]
