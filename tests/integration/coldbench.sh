#!/bin/bash
# coldbench: a small run with real engines gives what its report is made of, a run that is interrupted leaves nothing.
# Runs alone: what it measures is the machine, whose page cache it drops.
. "$(dirname "$0")/../lib.sh"
require jq containerd ctr runc docker-registry skopeo
for program in coldbench netproxy contentd contentctl; do
	[ -x "$BIN/$program" ] || bail "$BIN/$program is not built"
done
export CONTENTD_SOURCE=$SOURCE_DIR

suite() {
	cat >"$T/$1.toml" <<-END
		title = "a test"
		repetitions = $2
		[network.lan]
		rtt_ms = 1
		mbit = 1000
		[network.bad]
		rtt_ms = 1
		mbit = 1000
		faults = ["status=404 all /v2/"]
		[case.cold]
		mode = "start"
		images = ["shell"]
		engines = ["contentd", "contentd-plain", "containerd"]
		networks = ["lan"]
		[case.warm]
		mode = "warm"
		images = ["shell"]
		engines = ["containerd"]
		networks = ["bad"]
	END
}

# What a script starts in the background ignores SIGINT unless told otherwise.
run() {
	local suite=$1
	shift
	exec env --default-signal=INT "$BIN/coldbench" run "$T/$suite.toml" --work "$T/work" --out "$T/$suite" "$@"
}

# samples RUN JQ: of each sample a line.
samples() { tail -n +2 "$T/$1/samples.jsonl" | jq -c "$2"; }

# Of the one sample of an engine in a group.
metric() { samples small "select(.group == \"$1\" and .engine == \"$2\").metrics.\"$3\""; }

# What coldbench could forget: processes, mounts, folders, control groups.
remains() {
	leftovers "$T"
	find "$T/work" -mindepth 1 -maxdepth 1
	find /sys/fs/cgroup -type d -path "*coldbench-$1-*" 2>/dev/null
}

mkdir "$T/work"
defer sweep "$T/work"

note "mistakes"
suite wrong 1
echo 'colour = "red"' >>"$T/wrong.toml"
check_fails "a key that there is not" eval "(run wrong)"
check_match "is told with its line" "$(cat "$T/check.out")" 'wrong.toml:20: unknown key case.warm.colour'
check_fails "an engine that there is not" eval "(run wrong --engines docker)"
check_eq "neither begins a run" "$(ls "$T/work")$(ls -d "$T/wrong" 2>/dev/null)" ""

note "a run"
suite small 1
run small --seed 7 >"$T/table" 2>"$T/progress" &
pid=$!
wait $pid
check_eq "ends well" "$?" 0
check_eq "leaves nothing" "$(remains $pid)" ""
check_eq "every case has a sample" "$(samples small '[.group, .engine]' | sort | tr '\n' ' ')" \
	'["cold","containerd"] ["cold","contentd"] ["cold","contentd-plain"] ["warm","containerd"] '
check_eq "none failed" "$(samples small '.error // empty')" ""
check_eq "phases sum to the time to ready" "$(samples small '.metrics | . as $m | .ready_ms as $all |
	([to_entries[] | select(.key | startswith("phase.")) | .value] | add - $all | fabs) <= $all / 100' | sort -u)" true
check_eq "all starts took time and processor time" \
	"$(samples small '.metrics.ready_ms > 1 and .metrics.cpu_s > 0 and .metrics."noise.spin_ms" > 0' | sort -u)" true
check "a plain start fetches the image" test "$(metric cold containerd net.bytes)" -gt 40000000
check "so does ours" test "$(metric cold contentd-plain net.bytes)" -gt 40000000
check "a lazy one fetches some of it" test "$(metric cold contentd net.bytes)" -gt 10000 -a \
	"$(metric cold contentd net.bytes)" -lt 20000000
check_eq "a warm one nothing, and faults do not strike what it prepares" \
	"$(metric warm containerd net.bytes) $(metric warm containerd net.faults)" "0 0"
check_eq "memory is told by program" "$(metric cold containerd 'peak_bytes.containerd' | jq '. > 1000000')" true
check_eq "the container's own program is not among them" "$(metric cold containerd 'processes.sh')$(metric cold containerd \
	'processes.dash')" nullnull
check_match "the header names the machine, the engines and the order" \
	"$(head -n 1 "$T/small/samples.jsonl" | jq -c '[.coldbench, .suite, .seed, .machine.cpus > 0, (.engines | keys)]')" \
	'^\[1,"small",7,true,\["containerd","contentd","contentd-plain"\]\]$'
check_match "the table has the engines" "$(cat "$T/table")" 'contentd-plain'
check "there is a report" grep -q '<svg' "$T/small/report.html"
check_eq "and a line of CSV a sample" "$(wc -l <"$T/small/samples.csv")" 5
check_fails "another run into the same folder" eval "(run small)"
check_match "is told why" "$(cat "$T/check.out")" 'small holds samples of another run'
check_eq "which are still there" "$(samples small .group | wc -l)" 4

note "a network with faults"
# The one is struck; the other fails before it has asked for anything, after one that was struck.
cat >"$T/struck.toml" <<-END
	title = "faults"
	repetitions = 2
	[network.bad]
	rtt_ms = 1
	mbit = 1000
	faults = ["status=404 all /v2/"]
	[case.struck]
	mode = "start"
	images = ["shell"]
	engines = ["containerd"]
	networks = ["bad"]
	[case.early]
	mode = "touched"
	images = ["shell"]
	engines = ["containerd"]
	networks = ["bad"]
END
check_fails "fails whoever cannot do without" eval "(run struck)"
check_eq "each sample has its own faults" \
	"$(samples struck '[.group, .error != null, .metrics."net.faults" == 0]' | sort | uniq -c | tr -s '\n ' ' ')" \
	' 2 ["early",true,true] 2 ["struck",true,false] '
check "all of which are counted" eval '[ "$(samples struck ".metrics.\"net.faults\" | numbers" | wc -l)" = 4 ]'

note "an interrupted run"
suite long 100
run long --engines contentd,contentd-plain >"$T/table" 2>"$T/progress" &
pid=$!
wait_for 60 eval '[ "$(wc -l <"$T/long/samples.jsonl")" -ge 3 ]'
wait_for 20 pgrep -P "$pid" contentd
kill -INT $pid
wait $pid
check_eq "says so" "$?" 130
check_eq "leaves nothing, either" "$(remains $pid)" ""
check "keeps what was measured" eval '[ "$(samples long .metrics.ready_ms | wc -l)" -ge 2 ]'
check_eq "which has not failed" "$(samples long '.error // empty')" ""
check "and reports it" grep -q '<svg' "$T/long/report.html"
finish
