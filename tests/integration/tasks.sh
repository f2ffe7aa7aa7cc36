#!/bin/bash
# Tasks as clients use them, by Debian's ctr: the themes of containerd's own client suite about containers, shims and
# restarts. Runtimes by name and by path, runc and crun.
. "$(dirname "$0")/../node.sh"
require crun script

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
image=$REGISTRY/test/tiny:plain
mkdir "$T/fifo" "$T/shared"
fifos=(--fifo-dir "$T/fifo")

sh_() { local id=$1; shift; ctr_ run --rm "${fifos[@]}" "$@" "$image" "$id"; }
run_d() { local id=$1; shift; ctr_ run -d "$@" "$image" "$id" "${command[@]}"; }
command=(/bin/sh -c 'while :; do sleep 0.1; done')
state_of() { ctr_ tasks ls | awk -v id="$1" '$1 == id {print $3}'; }
pid_of() { ctr_ tasks ls | awk -v id="$1" '$1 == id {print $2}'; }
shim_of() { awk '{print $4}' "/proc/$(pid_of "$1")/stat"; }
remove() { ctr_ tasks rm -f "$1" >"$T/out" 2>&1; ctr_ containers rm "$1" >"$T/out" 2>&1; }
heard() { grep -E "$CONTENTD_NAMESPACE $1 " "$T/events" | grep -c -- "$2"; }
# The topics of a task's own events, in the order in which they came.
story() {
	grep -oE "$CONTENTD_NAMESPACE /tasks/[a-z-]+ .*\"container_id\":\"$1\".*" "$T/events" |
		sed -E 's,^[^ ]+ /tasks/([a-z-]+) .*,\1,' | tr '\n' ' '
}
# Follows events as a client does that subscribes again when the daemon comes back.
follow_events() {
	trap 'kill $! 2>/dev/null; exit 0' TERM
	while :; do
		ctr_ events >>"$T/events" 2>"$T/events.err" &
		wait $!
		sleep 0.02
	done
}
# Nothing says when a subscription begins: something is done until it is heard of.
wait_followed() {
	local before
	before=$(grep -c /namespaces/update "$T/events")
	wait_for 20 eval 'ctr_ namespaces label "$CONTENTD_NAMESPACE" listening=$RANDOM$RANDOM; [ "$(grep -c /namespaces/update "$T/events")" -gt "$before" ]'
}

start_contentd tasks
ctl pull "$image" >"$T/out" 2>&1 || bail "$(cat "$T/out")"
: >"$T/events"
follow_events &
EVENTS_PID=$!
wait_followed

# ---- ctr run and its options ----
check_eq "--env, --cwd" "$(ctr_ run --rm "${fifos[@]}" --env A=b --cwd /tmp "$image" r1 /bin/sh -c 'echo $A $PWD')" "b /tmp"
echo shared >"$T/shared/file"
check_eq "--mount" "$(ctr_ run --rm "${fifos[@]}" --mount "type=bind,src=$T/shared,dst=/mnt,options=rbind:ro" "$image" r2 /bin/cat /mnt/file)" shared
# Root of the container is somebody else out here, who has to get at its files; the test's folder is closed otherwise.
chmod 711 "$T"
check_match "a user namespace" "$(ctr_ run --rm "${fifos[@]}" --uidmap 0:1000:5000 --gidmap 0:2000:5000 "$image" r9 \
	/bin/sh -c 'echo $(id -u) $(head -n 1 /proc/self/gid_map)' 2>&1)" '^0 0 2000 5000$'
chmod 700 "$T"
check_eq "-t" "$(script -qec "ctr --address $CONTENTD/contentd.sock -n $CONTENTD_NAMESPACE run --rm -t --fifo-dir $T/fifo $image r3 /bin/sh -c 'test -t 0 && echo terminal'" /dev/null | grep -o 'terminal')" terminal
check "-d, --pid-file, --memory-limit, --cpus" run_d r4 --pid-file "$T/pid" --memory-limit 33554432 --cpus 0.5
check_eq "the pid is written" "$(cat "$T/pid")" "$(pid_of r4)"
check_eq "the limit of memory" "$(cat /sys/fs/cgroup{/memory,}/"$CONTENTD_NAMESPACE"/r4/memory.{limit_in_bytes,max} 2>/dev/null)" 33554432
check_match "tasks metrics" "$(ctr_ tasks metrics r4)" 'memory.*|cpu'
check "tasks pause" ctr_ tasks pause r4
check_eq "it is paused" "$(state_of r4)" PAUSED
check "tasks resume" ctr_ tasks resume r4
check_eq "it runs" "$(state_of r4)" RUNNING
check "contentctl pause" ctl pause r4
check_match "it is paused" "$(ctl ps)" '^r4 .* paused '
check "contentctl resume" ctl resume r4
check_match "it runs" "$(ctl ps)" '^r4 .* running '
check_match "tasks ps" "$(ctr_ tasks ps r4)" "^$(pid_of r4) "
check_match "delete of what runs" "$(ctr_ tasks rm r4 2>&1)" 'failed precondition'
check_match "checkpoint, without CRIU, is the runtime's error" "$(ctr_ tasks checkpoint --image-path "$T/cp" r4 2>&1)" 'criu|CRIU'
check "tasks rm -f" ctr_ tasks rm -f r4
check "containers rm" ctr_ containers rm r4
check "--cgroup" run_d r5 --cgroup "/$CONTENTD_NAMESPACE-own/deep/r5"
check_eq "is where it is" "$(find /sys/fs/cgroup -type d -path "*/$CONTENTD_NAMESPACE-own/deep/r5" | wc -l | awk '{print ($1 > 0)}')" 1
remove r5
check_eq "and all of it goes" "$(find /sys/fs/cgroup -type d -path "*/$CONTENTD_NAMESPACE-own*")" ""
check "--log-uri file" ctr_ run -d --log-uri "file://$T/logged" "$image" r6 /bin/echo to a file
check "it is written" wait_for 10 grep -q 'to a file' "$T/logged"
remove r6
printf '#!/bin/sh\nexec 9>&5 5>&-\nexec 9>&-\ncat <&3 >"%s/$CONTAINER_ID.log"\n' "$T" >"$T/logger"
chmod +x "$T/logger"
check "--log-uri binary" ctr_ run -d --log-uri "binary://$T/logger" "$image" r7 /bin/echo to a program
check "it is written" wait_for 10 grep -q 'to a program' "$T/r7.log"
remove r7
check_eq "attach" "$(
	ctr_ run -d "${fifos[@]}" "$image" r8 /bin/sh -c 'sleep 1; echo seen; exit 3' >"$T/out" 2>&1
	ctr_ tasks attach r8 2>&1
	echo $?
)" "seen
3"
remove r8

# ---- exec ----
run_d e1 >"$T/out" 2>&1
check_match "its bundle, by containerd's name of the directory" \
	"$(cat "$CONTENTD/state/io.containerd.runtime.v2.task/$CONTENTD_NAMESPACE/e1/shim-binary-path" 2>&1)" '^/.*containerd-shim-runc-v2$'
check_eq "exec with many arguments" "$(ctr_ tasks exec "${fifos[@]}" --exec-id x1 e1 /bin/sh -c 'echo $#' sh $(seq 1500))" 1500
check_eq "with a lot of output" "$(ctr_ tasks exec "${fifos[@]}" --exec-id x2 e1 /bin/sh -c 'head -c 1000000 /dev/zero' | wc -c)" 1000000
check_match "of a program that is not there" "$(ctr_ tasks exec "${fifos[@]}" --exec-id x3 e1 /no/program 2>&1)" 'no such file'
check_eq "its status" "$(ctr_ tasks exec "${fifos[@]}" --exec-id x4 e1 /bin/sh -c 'exit 9' >/dev/null 2>&1; echo $?)" 9
check_eq "its input" "$(echo words | ctr_ tasks exec "${fifos[@]}" --exec-id x5 e1 /bin/cat)" words
check "kill -a" ctr_ tasks kill -a -s KILL e1
check "it ends" wait_for 10 eval '[ "$(state_of e1)" = STOPPED ]'
check_match "kill of what has ended" "$(ctr_ tasks kill e1 2>&1)" 'not found|finished'
remove e1
check_match "a program that is not there" "$(sh_ e2 2>&1 </dev/null; ctr_ run --rm "${fifos[@]}" "$image" e3 /no/program 2>&1)" 'no such file'
check_eq "leaves no bundle" "$(find "$CONTENTD/state/tasks" -mindepth 2 -maxdepth 2)" ""
check_eq "a short run" "$(for i in 1 2 3 4 5; do ctr_ run --rm "${fifos[@]}" "$image" "s$i" /bin/true; echo -n $?; done)" 00000
# Its cgroup has to stay until the shim has looked there.
check "too much memory" ctr_ run -d --null-io --memory-limit 8388608 "$image" oom /bin/sh -c 'x=x; while :; do x=$x$x; done'
check "is an event" wait_for 10 eval '[ "$(heard /tasks/oom oom)" -gt 0 ]'
check "and the end" wait_for 10 eval '[ "$(state_of oom)" = STOPPED ]'
check_match "by a signal" "$(ctr_ tasks rm oom 2>&1)" 'exit code 137'
remove oom

# ---- runtimes ----
ln -s "$(command -v containerd-shim-runc-v2)" "$T/containerd-shim-foo-v1"
check_match "a shim by its path" "$(ctr_ run --rm "${fifos[@]}" --runtime "$T/containerd-shim-foo-v1" "$image" p1 /bin/echo by path 2>&1)" 'by path'
check_match "io.containerd.runc.v1" "$(ctr_ run --rm "${fifos[@]}" --runtime io.containerd.runc.v1 "$image" p2 /bin/echo version 1 2>&1)" 'version 1'
check_match "one that is not installed" "$(ctr_ run --rm "${fifos[@]}" --runtime io.containerd.none.v7 "$image" p3 /bin/true 2>&1)" 'not installed'
ctr_ containers rm p3 >"$T/out" 2>&1
check_match "--runc-binary" "$(ctr_ run --rm "${fifos[@]}" --runc-binary no-such-runc "$image" p4 /bin/true 2>&1)" 'no-such-runc'
ctr_ containers rm p4 >"$T/out" 2>&1
long_id=$(printf 'c%.0s' {1..64})
check "the longest names" ctr --address "$CONTENTD/contentd.sock" -n "$CONTENTD_NAMESPACE" run --rm "${fifos[@]}" "$image" "$long_id" /bin/true

# ---- shims ----
run_d a1 >"$T/out" 2>&1
check_eq "a shim is killed before its daemon is" "$(cat "/proc/$(shim_of a1)/oom_score_adj")" "$(($(cat "/proc/$CONTENTD_PID/oom_score_adj") + 1))"
pid=$(pid_of a1)
kill -KILL "$(shim_of a1)"
check "a killed shim is an exit with 137" wait_for 10 eval 'heard /tasks/exit "\"container_id\":\"a1\".*\"exit_status\":137" | grep -q 1'
check "and ends the container" wait_for 10 eval '! kill -0 "$pid"'
check "the name is free" ctr_ tasks start -d a1
remove a1
run_d g1 --annotation io.containerd.runc.v2.group=both >"$T/out" 2>&1
run_d g2 --annotation io.containerd.runc.v2.group=both >"$T/out" 2>&1
check_eq "two containers in one shim" "$(shim_of g1)" "$(shim_of g2)"
remove g1
check_eq "one goes, the other stays" "$(state_of g2)" RUNNING
kill -KILL "$CONTENTD_PID"
restart_contentd
check_eq "also over a restart" "$(state_of g2)" RUNNING
remove g2

# ---- shims of newer suites ----
for suite in $PEERS; do
	shim=$(peer "$suite" | sed -n 1p)/usr/bin/containerd-shim-runc-v2
	with_shim() { ctr_ run "${fifos[@]}" --runtime "$shim" "$@"; }
	check_eq "the shim of $suite" "$(with_shim --rm "$image" n1 /bin/sh -c 'echo newer; exit 7' 2>&1; echo $?)" "newer
7"
	check "detached" with_shim -d "$image" n2 "${command[@]}"
	check_eq "exec" "$(ctr_ tasks exec "${fifos[@]}" --exec-id e1 n2 /bin/echo inside 2>&1)" inside
	check_match "metrics" "$(ctr_ tasks metrics n2)" 'memory\.usage[a-z_]* +[1-9]'
	kill -KILL "$CONTENTD_PID"
	restart_contentd
	check_eq "is found after a restart" "$(state_of n2)" RUNNING
	pid=$(pid_of n2)
	kill -KILL "$(shim_of n2)"
	check "killed, it ends its container" wait_for 10 eval '! kill -0 "$pid"'
	check "and the name is free" ctr_ tasks start -d n2
	remove n2
	check_eq "it leaves no bundle" "$(find "$CONTENTD/state/tasks" -mindepth 2 -maxdepth 2)" ""
done

# ---- restarts ----
wait_followed
run_d d1 >"$T/out" 2>&1
ctr_ tasks attach d1 >"$T/attach" 2>&1 &
attach=$!
sleep 0.3
kill -KILL "$CONTENTD_PID"
wait "$attach"
check_match "a wait ends with the daemon" "$(cat "$T/attach")" 'unavailable|Unavailable|closed|EOF'
kill -KILL "$(cat "$CONTENTD/state/tasks/$CONTENTD_NAMESPACE/d1/init.pid")"
restart_contentd
check "an exit meanwhile is told" wait_for 10 eval 'heard /tasks/exit "\"container_id\":\"d1\".*\"exit_status\":137" | grep -q 1'
ctr_ events >"$T/late" 2>&1 &
late=$!
check "also to one who comes back when it has been told" wait_for 10 grep -q '/tasks/exit .*"container_id":"d1"' "$T/late"
kill "$late"
wait "$late" 2>/dev/null
check_eq "and known" "$(ctr_ tasks attach d1 >/dev/null 2>&1; state_of d1)" STOPPED
remove d1
check "its deletion" wait_for 10 eval 'heard /tasks/delete "\"container_id\":\"d1\"" | grep -q 1'
check_eq "all of it once and in order" "$(story d1)" "create start exit delete "
kill "$EVENTS_PID"
wait "$EVENTS_PID" 2>/dev/null

# ---- a boot where the state directory is on a disk: bundles are there, without all that was in them ----
for id in b1 b2 b3; do
	run_d $id >"$T/out" 2>&1
done
kill -KILL "$CONTENTD_PID"
sweep "$CONTENTD"
for file in told config.json bootstrap.json address init.pid; do
	: >"$CONTENTD/state/tasks/$CONTENTD_NAMESPACE/b2/$file"
done
for file in shim-binary-path shim.pid; do
	: >"$CONTENTD/state/tasks/$CONTENTD_NAMESPACE/b3/$file"
done
restart_contentd
for id in b1 b2 b3; do
	check "after a boot $id can start again" ctr_ tasks start -d $id
	check_eq "and runs" "$(state_of $id)" RUNNING
	remove $id
done

# ---- a container that is removed when nobody sees a task of it yet ----
no_shims() {
	local line
	for line in $(grep -lza -x -- "$CONTENTD/contentd.sock" /proc/[0-9]*/cmdline 2>/dev/null); do
		[ "$(cat "${line%/*}/comm" 2>/dev/null)" != containerd-shim ] || return 1
	done
}
check "all shims have ended" wait_for 10 no_shims
printf '#!/bin/sh\ncase " $* " in *" create "*) : >"%s/creating"; sleep 1 ;; esac\nexec runc "$@"\n' "$T" >"$T/slow-runc"
chmod +x "$T/slow-runc"
run_d o1 --runc-binary "$T/slow-runc" >"$T/o1" 2>&1 &
creating=$!
wait_for 20 test -e "$T/creating"
check "a container is removed while its task is made" ctl rm --force o1
check_fails "the task is not made" wait "$creating"
check_match "and why" "$(cat "$T/o1")" 'container.*o1.*not found|container o1'
check "no shim of it stays" wait_for 10 no_shims
check_eq "nor its bundle" "$(find "$CONTENTD/state/tasks" -name o1)" ""
retire_contentd
check_eq "no control group is left" "$(find /sys/fs/cgroup -type d -path "*/$CONTENTD_NAMESPACE*")" ""

# ---- crun, and a state directory on a tmpfs ----
# crun refuses a hybrid tree of control groups, so it gets one without the unified hierarchy.
# shellcheck disable=SC2016 # of the inner shell
UNDER=(unshare --mount --propagation private sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null
	mkdir -p "$0" && mount -t tmpfs -o mode=755 tmpfs "$0" && exec "$@"' "$T/crun/state")
start_contentd crun
UNDER=()
# A client that mounts the image to look into it must be where the daemon is.
inside() { nsenter --target "$CONTENTD_PID" --mount -- "$@"; }
ctr_() { inside ctr --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" "$@"; }
with_crun() { ctr_ run --runc-binary crun "${fifos[@]}" "$@"; }
ctl pull "$image" >"$T/out" 2>&1 || bail "$(cat "$T/out")"
check_eq "crun: output and status" "$(with_crun --rm "$image" c1 /bin/sh -c 'echo by crun; exit 7' 2>&1; echo $?)" "by crun
7"
check_match "crun: no such program" "$(with_crun --rm "$image" c2 /no/program 2>&1)" 'no such file|not found'
ctr_ containers rm c2 >"$T/out" 2>&1
check_eq "crun: by contentctl" "$(ctl run --rm --runc-binary crun "$image" /bin/sh -c 'echo as well' 2>&1)" "as well"
check "crun: detached" with_crun -d "$image" c3 /bin/sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'
check_eq "it is crun that has it" "$(crun --root "/run/containerd/runc/$CONTENTD_NAMESPACE" list -q 2>&1)" c3
check_eq "its bundle is on the tmpfs" "$(inside stat -f -c %T "$CONTENTD/state/tasks/$CONTENTD_NAMESPACE/c3")" tmpfs
check_eq "crun: exec" "$(ctr_ tasks exec "${fifos[@]}" --exec-id e1 c3 /bin/sh -c 'echo exec by crun; exit 5' 2>&1; echo $?)" \
	"exec by crun
5"
check_match "crun: processes" "$(ctr_ tasks ps c3)" "^$(pid_of c3) "
check_match "crun: metrics" "$(ctr_ tasks metrics c3)" 'memory\.usage[a-z_]* +[1-9]'
check "crun: pause" ctr_ tasks pause c3
check_eq "it is paused" "$(state_of c3)" PAUSED
check "crun: resume" ctr_ tasks resume c3
check "crun: kill" ctr_ tasks kill -s TERM c3
check "it ends" wait_for 10 eval '[ "$(state_of c3)" = STOPPED ]'
check_eq "with its status" "$(ctl ps --all --json | jq '.[] | select(.id == "c3") | .exitStatus')" 9
remove c3
check_eq "crun: nothing is left" "$(crun --root "/run/containerd/runc/$CONTENTD_NAMESPACE" list -q 2>&1)$(inside find "$CONTENTD/state/tasks" -mindepth 2 -maxdepth 2)" ""
retire_contentd
check_eq "nor a control group" "$(find /sys/fs/cgroup -type d -path "*/$CONTENTD_NAMESPACE*")" ""
finish
