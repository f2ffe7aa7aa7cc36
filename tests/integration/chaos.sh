#!/bin/bash
# Containers live and die while the daemon is killed at random moments and images are removed under them: every status and
# every event is as it must be, and at the end nothing is left. CHAOS_CONTAINERS=300 for the long run, CHAOS_SEED=N to
# make one again.
# Runs alone: it loads the machine as much as it can, and looks for what is left of it everywhere.
. "$(dirname "$0")/../node.sh"
CONTAINERS=${CHAOS_CONTAINERS:-40}
SEED=${CHAOS_SEED:-$RANDOM$RANDOM}
[ -x "$BUILD/unit/chaos" ] || bail "$BUILD/unit/chaos is not built"

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
publish "$T/other" test/other

# The namespace of the containers has one of its own, and so have runc's files and the control groups.
D=$T/d NS=${T##*.}-chaos
mkdir "$D" "$D/out"
printf 'root = "%s"\nstate = "%s"\n[grpc]\naddress = "%s"\n[snapshotter]\nlevel = "%s"\n' \
	"$D/root" "$D/state" "$D/sock" "$LEVEL" >"$D/config.toml"
defer remove_cgroups "$NS"
defer sweep "$D"

chaos() {
	"$BUILD/unit/chaos" --address "$D/sock" --namespace "$NS" --dir "$D/out" --contentctl "$BIN/contentctl" \
		--image "$REGISTRY/test/tiny:lazy" --image "$REGISTRY/test/tiny:plain" --image "$REGISTRY/test/other:lazy" \
		--seed "$SEED" --containers "$CONTAINERS" -- "$BIN/contentd" --config "$D/config.toml"
}
chaos 2>&1 | tee "$T/chaos.out"
check_eq "seed $SEED: $CONTAINERS containers, and nothing went wrong" "$(tail -n 1 "$T/chaos.out")" "0 wrong"
if [ "$T_FAILED" -ne 0 ]; then
	grep -o 'WRONG: c[0-9]*' "$T/chaos.out" | cut -d' ' -f2 | sort -u | while read -r id; do
		note "log of $id"
		grep -E "[/ ]$id( |:|$)" "$D/out/contentd.log" | tail -n 10 >&2
	done
fi

# What the daemon has left behind; contentfs goes on, with its one mount of objects.
check "shims end" wait_for 10 eval '! grep -lza -x "$D/sock" /proc/[0-9]*/cmdline'
check_eq "no bundle is left" "$(find "$D/state/tasks" -mindepth 2 2>/dev/null)" ""
check_eq "nor a work directory" "$(find "$D/root/tasks" -mindepth 2 2>/dev/null)" ""
check_eq "nor a control group" "$(find /sys/fs/cgroup -type d -path "*/$NS*")" ""
check_eq "nor a mount of a container" "$(mounts_of "$D/state/tasks")" ""
check_eq "nor anything of runc" "$(ls -A "/run/containerd/runc/$NS" 2>/dev/null)" ""
check_eq "nor a file of an image" "$(mounts_of "$D/state/meta")" ""
check_eq "nor half an ingest" "$(find "$D/root/content/ingest" -mindepth 1)" ""
for ((i = 0; i < CONTAINERS + 72; i++)); do
	printf '%s/%s/c%s' "$D/sock" "$NS" "$i" | sha256sum | cut -d' ' -f1
done | sort >"$T/sockets.ours"
check_eq "nor a socket" "$(ls /run/containerd/s | sort | comm -12 - "$T/sockets.ours")" ""
check_eq "nor a snapshot's directory" "$(find "$D/root/snapshots" -mindepth 2 -maxdepth 2 -name '[0-9]*' | head -n 3)" ""
finish
