#!/bin/bash
# The command line client: exit statuses, standard input, terminals, signals, JSON, help, and errors that say what to do.
. "$(dirname "$0")/../node.sh"
require script timeout

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
image=$REGISTRY/test/tiny:lazy
contentctl=$BIN/contentctl

status_of() {
	"$@" >"$T/status.out" 2>&1
	echo $?
}

usage() {
	local verb asked=0 usage
	check_match "--version" "$("$contentctl" --version)" '^contentctl [0-9]'
	check_match "--help lists the verbs" "$("$contentctl" --help)" 'pull .*fetch an image'
	for verb in $("$contentctl" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
		check "help of $verb" "$contentctl" "$verb" --help
		usage=64
		[ "$verb" != fsck ] || usage=16 # as fsck(8)
		check_eq "$verb refuses what it does not know" "$(status_of "$contentctl" "$verb" --no-such-option)" $usage
		asked=$((asked + 1))
	done
	check_eq "all verbs were asked" "$("$contentctl" --help | sed -n '/^Verbs:/,/^$/p' | grep -c '^  [a-z]')" $asked
	check_eq "an unknown verb" "$(status_of "$contentctl" frobnicate)" 64
	check_match "is named" "$(cat "$T/status.out")" frobnicate
	check_eq "no daemon" "$(status_of "$contentctl" --address "$T/nobody.sock" images)" 125
	check_match "is told with its socket" "$(cat "$T/status.out")" "$T/nobody.sock: .*"
}

running() {
	local pid
	start_contentd client
	check_eq "no such image in the registry" "$(status_of ctl run "$REGISTRY/test/absent")" 125
	check_match "is told with its name" "$(cat "$T/status.out")" "$REGISTRY/test/absent"
	check_eq "no registry" "$(status_of ctl pull 127.0.0.1:1/test/tiny)" 125
	check_match "is told with its address" "$(cat "$T/status.out")" "127.0.0.1:1"
	check_eq "a name that is none" "$(status_of ctl pull 'No/Such Name')" 125
	check_eq "no such container" "$(status_of ctl exec absent true)" 125
	check_match "is told with its id" "$(cat "$T/status.out")" absent
	for verb in kill rm logs; do
		check_eq "nor for $verb" "$(status_of ctl $verb absent)" 125
	done
	check_eq "no such image for rmi" "$(status_of ctl rmi absent)" 125

	check_match "run pulls" "$(ctl run --rm "$image" 2>"$T/err")" '^hello from tiny$'
	check_eq "it removes what it made" "$(ctl ps --all -q)" ""
	check_eq "status 0" "$(status_of ctl run --rm "$image" true)" 0
	check_eq "status 1" "$(status_of ctl run --rm "$image" false)" 1
	check_eq "status 42" "$(status_of ctl run --rm "$image" sh -c 'exit 42')" 42
	check_eq "no such program" "$(status_of ctl run --rm "$image" /no/such/program)" 127
	check_match "is named" "$(cat "$T/status.out")" "/no/such/program"
	check_eq "nothing of it is left" "$(ctl ps --all -q)" ""
	ctl run --rm "$image" sh -c 'echo out; echo err >&2' >"$T/out" 2>"$T/err"
	check_eq "output is output" "$(cat "$T/out")" out
	check_eq "errors are errors" "$(cat "$T/err")" err
	check_eq "standard input comes" "$(head -c 3000000 "$BIN/contentd" | ctl run -i --rm "$image" sha256sum | cut -d' ' -f1)" \
		"$(head -c 3000000 "$BIN/contentd" | sha256sum | cut -d' ' -f1)"
	check_eq "without -i it is empty" "$(echo no | ctl run --rm "$image" cat)" ""
	check_eq "much output comes whole" "$(ctl run --rm "$image" cat /data/three-mib | wc -c)" 3145728
	check_eq "an environment of the image" "$(ctl run --rm "$image" sh -c 'echo $TINY $PWD')" "1 /data"
	check_eq "a read-only image: the next container does not see the last one's files" \
		"$(ctl run --rm "$image" touch /data/new; ctl run --rm "$image" sh -c '[ -e /data/new ] || echo new')" new
	check_eq "no network" "$(ctl run --rm "$image" sh -c 'ls /sys/class/net')" lo

	script -qec "$contentctl --address $CONTENTD/contentd.sock run --rm -t $image sh -c 'test -t 0 && echo a terminal'" \
		"$T/typescript" >"$T/out" 2>&1 </dev/null
	check_match "-t gives a terminal" "$(cat "$T/out")" '^a terminal'
	script -qec "$contentctl --address $CONTENTD/contentd.sock run --rm -t $image sh -c 'exit 5'" "$T/typescript" \
		>"$T/out" 2>&1 </dev/null
	check_eq "and the status" $? 5

	# Ctrl-C goes to the program, and the client ends with it.
	rm -f "$T/interrupted" # of the level before
	setsid "$contentctl" --address "$CONTENTD/contentd.sock" run --rm --name interrupted "$image" sh -c \
		'trap "echo caught; exit 3" INT; echo ready; while :; do sleep 0.05; done' >"$T/interrupted" 2>&1 &
	pid=$!
	wait_for 20 grep -q ready "$T/interrupted"
	kill -INT "$pid"
	wait "$pid"
	check_eq "Ctrl-C reaches the program" "$? $(tail -n 1 "$T/interrupted")" "3 caught"
	check_eq "and nothing stays" "$(ctl ps --all -q)" ""

	check_match "-d prints the id" "$(ctl run -d --name one "$image" sh -c 'echo logged; exec sleep 1000')" '^one$'
	check_eq "a name is taken once" "$(status_of ctl run -d --name one "$image" sleep 1)" 125
	check_eq "exec" "$(ctl exec one echo inside)" inside
	check_eq "exec: status" "$(status_of ctl exec one sh -c 'exit 9')" 9
	check_eq "exec: standard input" "$(echo typed | ctl exec -i one cat)" typed
	check_eq "exec: no such program" "$(status_of ctl exec one /no/such/program)" 127
	check_eq "exec: another user" "$(ctl exec -u nobody one id -u)" 65534
	wait_for 10 eval '[ -n "$(ctl logs one)" ]'
	check_eq "logs" "$(ctl logs one)" logged
	check_match "ps" "$(ctl ps)" "one +$image +running"
	check_eq "rm of a running container" "$(status_of ctl rm one)" 125
	check "kill" ctl kill --signal KILL one
	check "its end is seen" wait_for 10 eval '[ -z "$(ctl ps -q)" ]'
	check "rm" ctl rm one
	check_eq "nothing is left" "$(ctl ps --all -q)" ""

	for verb in images "ps --all" info df version; do
		check "JSON of $verb" eval "ctl $verb --json | jq -e ."
		check "or before the verb" eval "ctl --json $verb | jq -e ."
	done
	check_eq "images --json" "$(ctl images --json | jq -r '.[].name')" "$image"
	check_match "images" "$(ctl images)" "$image"
	check_eq "another namespace has none" "$(CONTENTD_NAMESPACE=other ctl images -q)" ""
	check "rmi" ctl rmi "$image"
	check_eq "and no image is left" "$(ctl images -q)" ""
	retire_contentd
}

# Shims write the end of a log when its container has ended already: who follows it has that too.
logs() {
	local i log following wrong=0
	for ((i = 0; i < 10; i++)); do
		ctl run -d --name "l$i" "$image" sh -c 'echo first; sleep 0.1; head -c 200000 /dev/zero; echo last' >"$T/out" 2>&1
		[ "$(ctl logs -f "l$i" | tail -c 5)" = last ] || wrong=$((wrong + 1))
		remove_container "l$i"
	done
	check_eq "logs -f has the last words" "$wrong" 0
	ctl run -d --name late "$image" true >"$T/out" 2>&1
	wait_for 10 eval '[ -z "$(ctl ps -q)" ]'
	log=$CONTENTD/root/logs/$CONTENTD_NAMESPACE/late.log
	exec 8>>"$log"
	ctl logs -f late >"$T/followed" 2>&1 8>&- &
	following=$!
	echo one >&8
	wait_for 10 grep -q one "$T/followed"
	sleep 1
	echo two >&8
	exec 8>&-
	wait "$following"
	check_eq "and waits for who still writes it" "$(xargs <"$T/followed")" "one two"
	remove_container late
}

# What does not depend on how images are mounted: containers that are watched from outside.
watching() {
	local pid group quota
	start_contentd watch
	ctl pull "$image" >"$T/out" 2>&1 || bail "$(cat "$T/out")"
	mkdir -p "$T/fifo"
	logs
	mkfifo "$T/typed"
	exec 7<>"$T/typed" # an input that does not end

	ctl run -d --name one "$image" sh -c 'echo first; until [ -e /end ]; do echo tick; sleep 0.05; done; echo last; exit 6' \
		>"$T/out" 2>&1
	wait_for 10 eval 'ctl logs one | grep -q tick'
	check_match "stats" "$(ctl stats)" '^one +[0-9]+\.[0-9]+ s +[0-9.]+ [kM]?B +- +[1-9]'
	check_eq "stats --json" "$(ctl stats --json one | jq -c '.[] | [.id, .cpuNs > 0, .memoryBytes > 0, .pids > 0, has("memoryLimitBytes")]')" \
		'["one",true,true,true,false]'
	check_eq "stats of what does not run" "$(status_of ctl stats one absent)" 125
	check_match "is told with its id" "$(cat "$T/status.out")" absent
	check "update" ctl update --memory 64m --pids-limit 50 --cpus 0.5 one
	group=$CONTENTD_NAMESPACE/one
	quota=$(cat "/sys/fs/cgroup/cpu/$group/cpu.cfs_quota_us" "/sys/fs/cgroup/$group/cpu.max" 2>/dev/null)
	check_eq "its processors" "${quota%% *}" 50000
	check_eq "its limits" "$(ctl stats --json one | jq -c '.[] | [.memoryLimitBytes, .pidsLimit]')" '[67108864,50]'
	check "update of one thing" ctl update --memory none one
	check_eq "leaves the others" "$(ctl stats --json one | jq -c '.[] | [.memoryLimitBytes, .pidsLimit]')" '[null,50]'
	check_eq "update of nothing" "$(status_of ctl update one)" 64
	check_eq "to nonsense" "$(status_of ctl update --memory 64x one)" 64
	check_eq "of what does not run" "$(status_of ctl update --memory 64m absent)" 125
	ctl stats --json --interval 1 one >"$T/rounds" 2>&1 &
	pid=$!
	check "stats --interval" wait_for 20 grep -q '"cpuPercent":[0-9]' "$T/rounds"

	setsid "$contentctl" --address "$CONTENTD/contentd.sock" attach one >"$T/joined1" 2>"$T/joined1.err" </dev/null &
	check "attach shows what is written" wait_for 10 grep -q tick "$T/joined1"
	kill -INT $!
	wait $!
	check_eq "Ctrl-C leaves" "$? $(cat "$T/joined1.err")" "0 contentctl: left one, which goes on"
	check_match "and it goes on" "$(ctl ps)" '^one .* running '
	check_eq "what was written before is not shown" "$(grep -c first "$T/joined1")" 0
	setsid "$contentctl" --address "$CONTENTD/contentd.sock" attach one >"$T/joined2" 2>&1 </dev/null &
	wait_for 10 grep -q tick "$T/joined2"
	ctl exec one touch /end
	wait $!
	check_eq "attach: status and last words" "$? $(tail -n 1 "$T/joined2")" "6 last"
	check "stats ends with its container" wait_for 20 eval '! is_running "$pid"'
	check_eq "attach to what has ended" "$(status_of ctl attach one)" 125

	ctr_ run -d --fifo-dir "$T/fifo" "$image" two /bin/sh -c 'while read -r x; do echo "got $x"; done' <&7 >"$T/out" 2>&1
	echo word | setsid "$contentctl" --address "$CONTENTD/contentd.sock" attach two >"$T/joined3" 2>&1 &
	pid=$!
	check "attach hands on what is typed" wait_for 10 grep -q 'got word' "$T/joined3"
	check_match "its input does not end with ours" "$(ctl ps)" '^two .* running '
	kill -TERM "$pid"
	wait "$pid"
	check_eq "SIGTERM leaves too" $? 143
	check_match "and it goes on" "$(ctl ps)" '^two .* running '
	ctr_ run -d --null-io "$image" three /bin/sleep 1000 >"$T/out" 2>&1
	check_eq "attach to what has no streams" "$(status_of ctl attach three)" 125

	script -qec "ctr --address $CONTENTD/contentd.sock -n $CONTENTD_NAMESPACE run -d -t --fifo-dir $T/fifo $image four \
		/bin/sh -c 'trap \"echo caught\" INT; while :; do echo tick; sleep 0.05; done'" /dev/null <&7 >"$T/out" 2>&1
	script -qefc "$contentctl --address $CONTENTD/contentd.sock attach four" "$T/typescript" <&7 >"$T/joined4" 2>&1 &
	pid=$!
	check "attach to a terminal" wait_for 10 grep -q tick "$T/joined4"
	printf '\003' >&7
	check "Ctrl-C is the terminal's" wait_for 10 grep -q caught "$T/joined4"
	printf '\020\021' >&7
	wait "$pid"
	check_eq "Ctrl-P Ctrl-Q leaves it" $? 0
	check_match "and it goes on" "$(ctl ps)" '^four .* running '
	exec 7<&-

	while [ ! -e "$T/collected" ]; do ctl gc; done >"$T/gc.out" 2>&1 &
	pid=$!
	check_eq "runs beside collections" "$(for i in 1 2 3 4 5 6 7 8; do status_of ctl run --rm "$image" true; done | sort | uniq -c | xargs)" "8 0"
	touch "$T/collected"
	wait "$pid"
	retire_contentd
}

usage
watching
at_levels running
finish
