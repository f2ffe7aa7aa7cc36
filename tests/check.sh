#!/bin/bash
# All tests: unit tests of the release build, every script of tests/integration with real peers, then the unit tests again
# under ASan and UBSan and under TSan, whose builds go on while the scripts wait for their peers.
#
#	sudo tests/check.sh [--quick] [--jobs N] [PART...]
#
# Parts: unit, asan, tsan, integration, or names of integration scripts (fixtures). Default: all. --quick leaves the
# sanitizers out. --jobs: how many integration scripts run at a time (default: one more than there are processors, since
# they mostly wait); each prints when it has ended. A script with a line "# Runs alone: WHY" is one of the last, and runs
# by itself. Tests with a contentd run at both levels of mounting, or at what LEVELS (overlay, tree) names. A missing tool
# is a failure: cmake/setup.sh installs what is needed first. Ends with the parts that took longest and "N passed, N
# failed"; the exit status says whether anything failed.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
processors=$(nproc)
lanes=$((processors + 1))
passed=0 failed=0
failures=()

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' tests/check.sh; }
parts=()
quick=
wrong_usage() {
	usage >&2
	exit 2
}
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=1 ;;
	--jobs)
		[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || wrong_usage
		lanes=$2
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	-*) wrong_usage ;;
	unit | integration | asan | tsan) parts+=("$1") ;;
	*)
		[ -x "tests/integration/$1.sh" ] || {
			echo "check: no part or integration test '$1'" >&2
			exit 2
		}
		parts+=("$1")
		;;
	esac
	shift
done
if [ ${#parts[@]} -eq 0 ]; then
	parts=(unit integration asan tsan)
	[ -z "$quick" ] || parts=(unit integration)
fi

[ "$(id -u)" -eq 0 ] || {
	echo "check: mounts and containers need root: sudo tests/check.sh" >&2
	exit 1
}
logs=$(mktemp -d "${TMPDIR:-/tmp}/cdcheck.XXXXXX")
# What still runs is told to end, cleans up, and is waited for.
end() {
	local pid pids
	pids=$(cat "$logs"/*.pid 2>/dev/null)
	for pid in $pids; do
		kill -TERM "$pid" 2>/dev/null
	done
	for pid in $pids; do
		tail --pid="$pid" -f /dev/null
	done
	wait
	rm -rf "$logs"
}
trap end EXIT
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

# timed NAME LIMIT COMMAND...: the command, without input, ended with this script or after so many seconds; what it took
# is noted: in $logs/times a line of seconds, those of processors in user and system mode, and the name.
timed() {
	local name=$1 limit=$2 status TIMEFORMAT='%0R %0U %0S'
	shift 2
	{
		time {
			env --default-signal=INT,QUIT timeout --kill-after=30 "$limit" "$@" </dev/null 2>&1 &
			echo $! >"$logs/$name.pid"
			wait $!
			status=$?
		}
	} 2>"$logs/$name.time"
	rm -f "$logs/$name.pid"
	printf '%s %s\n' "$(tail -n 1 "$logs/$name.time")" "$name" >>"$logs/times"
	return $status
}

took() { awk -v name="$1" '$4 == name { printf "(%s s, of processors %s s)\n", $1, $2 + $3 }' "$logs/times" | tail -n 1; }

# compile PRESET NICENESS: all of the release, of others what ctest runs; output and status in $logs. ccache, where it is
# installed, makes the second time short.
compile() {
	local launcher= target=unit_tests status
	[ "$1" != release ] || target=all
	command -v ccache >/dev/null && launcher='-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache'
	# shellcheck disable=SC2016 # the shell that runs it expands it
	timed "build-$1" 3600 nice -n "$2" sh -c 'cmake --preset "$0" $1 && cmake --build --preset "$0" -j "$2" --target "$3"' \
		"$1" "$launcher" "$processors" "$target" >"$logs/build-$1.out"
	status=$?
	echo $status >"$logs/build-$1.status"
	return $status
}

# The builds of sanitizers that parts will want, one after the other in the background, where they take what others leave.
builder=
build_ahead() {
	local part preset presets=()
	for part in "${parts[@]}"; do
		case $part in
		asan) presets+=(dev) ;;
		tsan) presets+=(tsan) ;;
		esac
	done
	[ ${#presets[@]} -gt 0 ] && [ -z "$builder" ] || return
	for preset in "${presets[@]}"; do
		[ -e "$logs/build-$preset.status" ] || compile "$preset" 19 || break
	done &
	builder=$!
}

# build PRESET: true when it is built.
build() {
	say "build: $1"
	[ -z "$builder" ] || [ "$1" = release ] || wait "$builder"
	[ -e "$logs/build-$1.status" ] || compile "$1" 0
	took "build-$1"
	[ "$(cat "$logs/build-$1.status")" -eq 0 ] || {
		broken "build of $1" "$logs/build-$1.out"
		return 1
	}
}

# unit PRESET FOLDER: the unit tests and the replayed fuzz corpora of one build.
unit() {
	local line
	build "$1" || return
	say "unit tests: $1"
	timed "unit-$1" 3600 ctest --test-dir "$2" --output-on-failure --no-tests=error -j "$processors" >"$logs/ctest"
	line=$(grep -E 'tests passed, [0-9]+ tests? failed out of [0-9]+' "$logs/ctest") || {
		broken "ctest of $1" "$logs/ctest"
		return
	}
	[[ $line =~ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]
	printf '%s\n' "$line"
	took "unit-$1"
	passed=$((passed + BASH_REMATCH[2] - BASH_REMATCH[1]))
	failed=$((failed + BASH_REMATCH[1]))
	if [ "${BASH_REMATCH[1]}" -gt 0 ]; then
		failures+=("unit tests of $1")
		cat "$logs/ctest"
	fi
}

# What scripts want that is made once a machine; one that comes before it is ready waits for it, and tells what is wrong.
prepare() {
	local suite
	timed make-images 1200 bench/images.sh shell python >"$logs/prepare.out" || return
	for suite in ${PEERS-trixie}; do
		timed "make-$suite" 1200 tests/peers.sh "$suite" >>"$logs/prepare.out" || return
	done
}

# script NAME: one integration test, its output on stdout.
script() {
	timed "$1" 1200 "tests/integration/$1.sh"
	echo $? >"$logs/$1.status"
}

# count NAME: what a script that has ended counted, counts here.
count() {
	local name=$1 status last
	status=$(cat "$logs/$name.status")
	last=$(tail -n 1 "$logs/$name.out")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		[ "${BASH_REMATCH[2]}" -eq 0 ] || failures+=("$name")
		[ "$status" -eq 0 ] || [ "${BASH_REMATCH[2]}" -gt 0 ] || broken "$name: status $status" /dev/null
	else
		broken "$name: ended with status $status before its time" /dev/null
	fi
	took "$name"
}

script_alone() {
	say "integration: $1"
	script "$1" | tee "$logs/$1.out"
	count "$1"
}

# Waits for any of the scripts that run, shows what it has to say, and counts it.
declare -A running=()
script_ended() {
	local pid name
	wait -n -p pid "${!running[@]}"
	name=${running[$pid]}
	unset "running[$pid]"
	say "integration: $name"
	cat "$logs/$name.out"
	count "$name"
}

# scripts NAME...: several at a time.
scripts() {
	local name
	for name; do
		[ ${#running[@]} -lt "$lanes" ] || script_ended
		script "$name" >"$logs/$name.out" &
		running[$!]=$name
	done
	while [ ${#running[@]} -gt 0 ]; do
		script_ended
	done
}

# Begun first, so that nobody waits for them alone at the end.
longest=(tree kill lazymount faults poison proxy)

integration() {
	local file name together=() alone=()
	build release || return
	build_ahead
	for file in tests/integration/*.sh; do
		name=$(basename "$file" .sh)
		if grep -q '^# Runs alone: ' "$file"; then
			alone+=("$name")
		elif [[ " ${longest[*]} " != *" $name "* ]]; then
			together+=("$name")
		fi
	done
	scripts "${longest[@]}" "${together[@]}"
	[ -z "$builder" ] || wait "$builder"
	for name in "${alone[@]}"; do
		script_alone "$name"
	done
}

begin=$SECONDS
timed setup 3600 cmake/setup.sh || exit 1
[[ " ${parts[*]} " != *" integration "* ]] || prepare &
for part in "${parts[@]}"; do
	case $part in
	unit) unit release build ;;
	asan) unit dev build/dev ;;
	tsan) unit tsan build/tsan ;;
	integration) integration ;;
	*) build release && script_alone "$part" ;;
	esac
done

if [ ${#failures[@]} -gt 0 ]; then
	say "failed"
	printf '%s\n' "${failures[@]}"
fi
say "took longest, of $((SECONDS - begin)) s"
sort -rn "$logs/times" | head -n 10 | awk '{ printf "%5d s, of processors %4d s: %s\n", $1, $2 + $3, $4 }'
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
