#!/bin/bash
# All tests: unit tests of the release build, the same under ASan and UBSan and under TSan, then every script of
# tests/integration with real peers.
#
#	sudo tests/check.sh [--quick] [PART...]
#
# Parts: unit, asan, tsan, integration, or names of integration scripts (fixtures). Default: all. --quick leaves the
# sanitizers out. Tests with a contentd run at both levels of mounting, or at what LEVELS (overlay, tree) names. A
# missing tool is a failure: cmake/setup.sh installs what is needed first. Ends with "N passed, N failed"; the exit
# status says whether anything failed.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
jobs=$(nproc)
passed=0 failed=0
failures=()

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' tests/check.sh; }
parts=()
quick=
for arg; do
	case $arg in
	--quick) quick=1 ;;
	-h | --help)
		usage
		exit 0
		;;
	-*)
		usage >&2
		exit 2
		;;
	*) parts+=("$arg") ;;
	esac
done
if [ ${#parts[@]} -eq 0 ]; then
	parts=(unit asan tsan integration)
	[ -z "$quick" ] || parts=(unit integration)
fi

[ "$(id -u)" -eq 0 ] || {
	echo "check: mounts and containers need root: sudo tests/check.sh" >&2
	exit 1
}
logs=$(mktemp -d "${TMPDIR:-/tmp}/cdcheck.XXXXXX")
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say() { printf '\n== %s\n' "$*"; }

# Something that should have counted tests could not even begin.
broken() {
	failed=$((failed + 1))
	failures+=("$1")
	printf 'FAIL %s\n' "$1"
	tail -n 40 "$2"
}

# build PRESET FOLDER: true when it is built. ccache, where it is installed, makes the second time short.
build() {
	local launcher=()
	command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
	say "build: $1"
	cmake --preset "$1" "${launcher[@]}" >"$logs/build" 2>&1 && cmake --build --preset "$1" -j "$jobs" >>"$logs/build" 2>&1 || {
		broken "build of $1" "$logs/build"
		return 1
	}
}

# unit PRESET FOLDER: the unit tests and the replayed fuzz corpora of one build.
unit() {
	local line
	build "$1" || return
	say "unit tests: $1"
	ctest --test-dir "$2" --output-on-failure --no-tests=error -j "$jobs" >"$logs/ctest" 2>&1
	line=$(grep -E 'tests passed, [0-9]+ tests? failed out of [0-9]+' "$logs/ctest") || {
		broken "ctest of $1" "$logs/ctest"
		return
	}
	[[ $line =~ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]
	printf '%s\n' "$line"
	passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1]))
	failed=$((failed + BASH_REMATCH[1]))
	if [ "${BASH_REMATCH[1]}" -gt 0 ]; then
		failures+=("unit tests of $1")
		cat "$logs/ctest"
	fi
}

# script FILE: one integration test; what it counted, counts here.
script() {
	local name last status begin=$SECONDS
	name=$(basename "$1" .sh)
	say "integration: $name"
	timeout --kill-after=30 1200 "$1" </dev/null 2>&1 | tee "$logs/script"
	status=${PIPESTATUS[0]}
	last=$(tail -n 1 "$logs/script")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		[ "${BASH_REMATCH[2]}" -eq 0 ] || failures+=("$name")
		[ "$status" -eq 0 ] || [ "${BASH_REMATCH[2]}" -gt 0 ] || broken "$name: status $status" /dev/null
	else
		broken "$name: ended with status $status before its time" /dev/null
	fi
	printf '(%s s)\n' $((SECONDS - begin))
}

integration() {
	build release || return
	for file in tests/integration/*.sh; do
		script "$file"
	done
}

cmake/setup.sh || exit 1
for part in "${parts[@]}"; do
	case $part in
	unit) unit release build ;;
	asan) unit dev build/dev ;;
	tsan) unit tsan build/tsan ;;
	integration) integration ;;
	*)
		if [ -x "tests/integration/$part.sh" ]; then
			build release && script "tests/integration/$part.sh"
		else
			echo "check: no part or integration test '$part'" >&2
			exit 2
		fi
		;;
	esac
done

if [ ${#failures[@]} -gt 0 ]; then
	say "failed"
	printf '%s\n' "${failures[@]}"
fi
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
