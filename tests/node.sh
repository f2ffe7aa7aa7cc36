# shellcheck shell=bash
# For integration tests that need a contentd; sourced instead of lib.sh. Such a test makes its images once and then runs
# at both levels of the ladder: overlay and tree (config key snapshotter.level), or at what $LEVELS names.
#
#	at_levels COMMAND...            runs it with $LEVEL set to each of $LEVELS
#	start_contentd NAME [LINE...]   a contentd in $T/NAME, with lines of TOML for its [fetch] section; then
#	                                $CONTENTD is its folder, $CONTENTD_PID its pid, and `ctl`, `ctr_` speak to it
#	UNDER=(COMMAND...)              what comes before contentd in its command line, e.g. unshare
#	stop_contentd                   ends it politely (containers and contentfs go on)
#	retire_contentd                 ends it with all it has started, and forgets its folder
#	restart_contentd                starts it again in the same folder, also after it was killed
#	use_contentd NAME               `ctl` and the others speak to that one
#	ctl VERB...                     contentctl
#	ctr_ ARG...                     Debian's ctr
#	info JQ                         a field of `contentctl info --json`
#	container_pid ID                pid of a container's first process
#	container_cgroups               control groups of all its containers
#	container_root ID               its root as this side sees it (the same mount, without /proc and the like)
#	sleeper ID IMAGE [CMD...]       a container that does nothing (with sleep, or with that program), named ID
#	publish LAYOUT NAME             plain as $REGISTRY/NAME:plain, and as eStargz as $REGISTRY/NAME:lazy
#	reference_tree LAYOUT DIR       unpacks it with umoci: DIR/rootfs
#
# Whatever the containers leave (processes, mounts, cgroups) goes with the test.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
LEVELS=${LEVELS:-overlay tree}
LEVEL=${LEVELS%% *}
UNDER=()
require jq skopeo umoci python3 ctr runc
for program in contentd contentfs contentctl content-convert; do
	[ -x "$BIN/$program" ] || bail "$BIN/$program is not built"
done

ctl() { "$BIN/contentctl" --address "$CONTENTD/contentd.sock" "$@"; }
ctr_() { ctr --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" "$@"; }
info() { ctl --json info | jq -r "$1"; }

at_levels() {
	for LEVEL in $LEVELS; do
		T_PREFIX="$LEVEL: "
		"$@"
	done
	T_PREFIX=
}

# The daemon has a namespace of containers of its own, so that their cgroups can be told from those of others.
use_contentd() {
	CONTENTD=$T/$1
	CONTENTD_NAME=$1
	CONTENTD_PID=$(cat "$CONTENTD/pid")
	export CONTENTD_NAMESPACE=${T##*.}-$1
}

run_contentd() {
	start "$1.$2" "${UNDER[@]}" "$BIN/contentd" --config "$T/$1/config.toml"
	echo "$STARTED" >"$T/$1/pid"
	use_contentd "$1"
	wait_for 30 eval 'ctl version && ctl info' || start_failed "$1.$2"
}

start_contentd() {
	local name=$1 dir=$T/$1
	shift
	mkdir "$dir"
	{
		printf 'root = "%s"\nstate = "%s"\n[grpc]\naddress = "%s"\n[log]\nlevel = "%s"\n' "$dir/root" "$dir/state" \
			"$dir/contentd.sock" "${LOG_LEVEL:-info}"
		printf '[snapshotter]\nlevel = "%s"\n[fetch]\ncerts_dir = "%s"\n' "$LEVEL" "$dir/certs.d"
		printf '%s\n' "$@"
	} >"$dir/config.toml"
	defer remove_cgroups "${T##*.}-$name"
	defer sweep "$dir"
	CONTENTD_RUNS=1
	run_contentd "$name" 1
}

stop_contentd() { stop_pid "$CONTENTD_PID"; }

retire_contentd() {
	local id
	for id in $(ctl ps --all -q); do
		remove_container "$id"
	done
	stop_contentd
	sweep "$CONTENTD"
	remove_cgroups "$CONTENTD_NAMESPACE"
	rm -rf --one-file-system "$CONTENTD"
}

restart_contentd() {
	wait "$CONTENTD_PID" 2>/dev/null
	CONTENTD_RUNS=$((CONTENTD_RUNS + 1))
	run_contentd "$CONTENTD_NAME" "$CONTENTD_RUNS"
}

# The control groups of the containers of this contentd.
container_cgroups() { find /sys/fs/cgroup -depth -type d -path "*/$CONTENTD_NAMESPACE/*" 2>/dev/null; }

# The folder in which runc put them stays, empty.
remove_cgroups() { find /sys/fs/cgroup -depth -type d \( -path "*/$1" -o -path "*/$1/*" \) -exec rmdir {} + 2>/dev/null || true; }

container_pid() { ctl --json ps --all | jq -r --arg id "$1" '.[] | select(.id == $id) | .pid'; }

container_root() { echo "$CONTENTD/state/tasks/$CONTENTD_NAMESPACE/$1/rootfs"; }

sleeper() {
	local id=$1 image=$2
	shift 2
	[ $# -gt 0 ] || set -- sleep 100000
	ctl run -d --name "$id" "$image" "$@" >"$T/sleeper.out" 2>&1 && sleep 0.1 && [ "$(container_pid "$id")" -gt 0 ] || {
		cat "$T/sleeper.out" >&2
		return 1
	}
}

remove_container() { ctl rm --force "$1" >"$T/rm.out" 2>&1 || cat "$T/rm.out" >&2; }

publish() {
	push_layout "$1" "$2:plain" || bail "push of $1 failed"
	"$BIN/contentctl" convert "oci:$1:latest" "$REGISTRY/$2:lazy" >"$T/convert.log" 2>&1 || {
		cat "$T/convert.log" >&2
		bail "conversion of $1 failed"
	}
}

reference_tree() {
	umoci unpack --image "$1:latest" "$2" >"$T/umoci.log" 2>&1 || {
		cat "$T/umoci.log" >&2
		bail "umoci cannot unpack $1"
	}
}
