#!/bin/bash
# kill -9 of the data plane's processes under load loses no read; kill -9 of the daemon loses no container.
. "$(dirname "$0")/../node.sh"
KILLS=20

layout=$("$SOURCE_DIR/bench/images.sh" shell) || bail "images.sh failed"
make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$layout" test/shell
publish "$T/tiny" test/tiny
reference_tree "$layout" "$T/ref"
list() { tree_list --no-dir-times "$1" | grep -v '^\.\(no\.\)\?prefetch\.landmark '; }
list "$T/ref/rootfs" >"$T/want"
python3 "$SOURCE_DIR/tests/read_mapped.py" "$T/ref/rootfs/usr" | sort >"$T/mapped.want"

new_pid() {
	local pid
	pid=$(info ".contentfs.$1") && [ -n "$pid" ] && [ "$pid" != 0 ] && [ "$pid" != null ] && [ "$pid" != "$2" ]
}

# Reads everything through a network that is too slow for it to end before the last kill, then through a fast one.
kill_under_load() {
	local who=$1 field=$2 kills pid readers=0 hasher mapper
	start_netproxy "$REGISTRY" --rtt-ms 2 --mbit 6
	start_contentd "$who" 'background = "off"'
	check "$who: pull" ctl pull "$NETPROXY/test/shell:lazy"
	check "$who: start" sleeper load "$NETPROXY/test/shell:lazy"
	root=$(container_root load)
	list "$root" >"$T/$who.got" 2>"$T/$who.err" &
	hasher=$!
	python3 "$SOURCE_DIR/tests/read_mapped.py" "$root/usr" >"$T/$who.mapped" 2>"$T/$who.mapped.err" &
	mapper=$!
	for ((kills = 0; kills < KILLS; kills++)); do
		sleep 0.2
		pid=$(info ".contentfs.$field")
		is_running "$hasher" && is_running "$mapper" && readers=$((readers + 1))
		kill -KILL "$pid" || break
		wait_for 20 new_pid "$field" "$pid" || break
	done
	check_eq "$who: killed under load, and replaced, $KILLS times" "$kills of $readers" "$KILLS of $KILLS"
	netproxy_ask net 0 0 >"$T/ask"
	wait "$hasher"
	check_eq "$who: the recursive hash finishes" "$? $(tail -n 1 "$T/$who.err")" "0 "
	wait "$mapper"
	check_eq "$who: the mapped reads finish" "$? $(tail -n 1 "$T/$who.mapped.err")" "0 "
	check_same "$who: every byte read is right" "$T/$who.got" "$T/want"
	check_same "$who: every byte mapped is right" <(sort "$T/$who.mapped") "$T/mapped.want"
	check_match "$who: another container starts" "$(ctl run --rm "$NETPROXY/test/shell:lazy" 2>&1)" '^hello from sh$'
	retire_contentd
	stop_pid "$NETPROXY_PID"
}

# The daemon

kill_daemon() {
	local image pid ender contentfs seen id
	start_contentd daemon
	image=$REGISTRY/test/tiny:lazy
	ctl pull "$image" >"$T/out" 2>&1
	check "a container that writes" ctl run -d --name writer "$image" sh -c \
		'i=0; while [ $i -lt 100000 ]; do echo $i; i=$((i + 1)); sleep 0.05; done'
	check "one that will end with a status" ctl run -d --name ender "$image" sh -c 'until [ -e /data/end ]; do sleep 0.05; done; exit 7'
	check "one that will end with a signal" sleeper sleeper "$image"
	pid=$(container_pid writer) ender=$(container_pid ender)
	contentfs=$(info .contentfs.holderPid)
	lines() { ctl logs writer | wc -l; }
	seen=$(lines)
	kill -KILL "$CONTENTD_PID"
	wait_for 5 eval '! is_running "$CONTENTD_PID"'
	check_fails "no daemon answers" ctl version
	check "the containers go on" kill -0 "$pid"
	: >"/proc/$ender/root/data/end"
	check "one ends meanwhile" wait_for 10 eval '! kill -0 "$ender"'
	restart_contentd
	check_eq "contentfs was not disturbed" "$(info .contentfs.holderPid)" "$contentfs"
	check_eq "the containers are listed again" "$(ctl ps -q | sort | tr '\n' ' ')" "sleeper writer "
	check_eq "with the same process" "$(container_pid writer)" "$pid"
	check_eq "exec works" "$(ctl exec writer cat /app/hello 2>&1)" "$(printf "#!/bin/sh\necho hello from tiny")"
	check_eq "the status of the one that ended is known" \
		"$(ctl --json ps --all | jq -r '.[] | select(.id == "ender") | "\(.status) \(.exitStatus)"')" "stopped 7"
	more_lines() { [ "$(lines)" -gt "$((seen + 5))" ]; }
	check "the log goes on" wait_for 10 more_lines
	ctl logs writer >"$T/log"
	check_same "and misses nothing" "$T/log" <(seq 0 $(($(wc -l <"$T/log") - 1)))
	check "kill works" ctl kill --signal KILL sleeper
	gone() { [ "$(ctl --json ps --all | jq -r '.[] | select(.id == "sleeper") | "\(.status) \(.exitStatus)"')" = "stopped 137" ]; }
	check "and its status is told" wait_for 10 gone
	check_match "new containers run" "$(ctl run --rm "$image" 2>&1)" '^hello from tiny$'
	for id in writer ender sleeper; do
		check "rm of $id" ctl rm --force "$id"
	done
	check_eq "nothing runs any more" "$(ctl ps --all -q)" ""
	retire_contentd
}

everything() {
	kill_under_load worker workerPid
	kill_under_load holder holderPid
	kill_daemon
}
at_levels everything
finish
