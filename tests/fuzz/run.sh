#!/bin/bash
# Builds the fuzz targets and runs each for a while: tests/fuzz/run.sh [SECONDS [TARGET...]]; default a minute, all.
# Inputs found on the way stay in build/fuzz/found/<target>; a crash leaves its input in build/fuzz/crashes/<target>,
# and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[[ $seconds =~ ^[0-9]+$ ]] || {
	echo "fuzz: the first argument is the seconds per target, not '$seconds'" >&2
	exit 2
}
[ $# -gt 0 ] && shift

cmake --preset fuzz >/dev/null
if [ $# -gt 0 ]; then
	cmake --build --preset fuzz --target "$@"
else
	cmake --build --preset fuzz
	readarray -t all < <(cd build/fuzz/fuzz && find . -maxdepth 1 -name 'fuzz_*' -type f -executable -printf '%f\n' | sort)
	set -- "${all[@]}"
fi

failed=0
for target; do
	found=build/fuzz/found/$target
	corpus=tests/fuzz/corpus/${target#fuzz_}
	crashes=build/fuzz/crashes/$target
	mkdir -p "$found" "$crashes"
	[ -d "$corpus" ] || corpus=
	echo "fuzz: $target for $seconds s"
	if ! "build/fuzz/fuzz/$target" -max_total_time="$seconds" -artifact_prefix="$crashes/" -timeout=20 \
		-print_final_stats=1 "$found" ${corpus:+"$corpus"} >"$found.log" 2>&1; then
		echo "fuzz: $target FAILED, see $found.log"
		tail -n 30 "$found.log"
		failed=1
	else
		grep -E 'stat::(number_of_executed_units|average_exec_per_sec)' "$found.log" || true
	fi
done
exit $failed
