#!/bin/bash
# `coldbench doctor`: that it runs, says what it should, and cleans up. What it measures is not asserted: see its README.
# Runs alone: what it measures is the machine.
. "$(dirname "$0")/../lib.sh"
require jq
[ -x "$BIN/coldbench" ] || bail "$BIN/coldbench is not built"

mkdir "$T/work"
doctor() { "$BIN/coldbench" doctor --work "$T/work" "$@"; }

# A bound may be missed on a machine that is busy with other tests: 0 and 1 are both answers.
doctor --quick --only machine --only proxy --json >"$T/json" 2>"$T/progress"
check_match "it ends with a verdict" "$?" '^[01]$'
check "its JSON is JSON" jq -e . "$T/json"
check_eq "it has the sections asked for" "$(jq -r '.sections | keys | join(" ")' "$T/json")" "machine proxy"
check_eq "the status is what the sections say" \
	"$(jq -r '[.sections[].findings[] | select(.state == "bad")] | length == 0' "$T/json")" "$(jq -r .passed "$T/json")"
check_eq "the machine's needs are listed" \
	"$(jq -r '.sections.machine.findings | [.root.value, .fuse.value, .drop_caches.value] | join(" ")' "$T/json")" \
	"yes yes yes"
check "each engine is named" jq -e '.sections.machine.findings | has("engine.contentd") and has("engine.containerd")' "$T/json"
check "noise has numbers" jq -e '.sections.machine.findings["spin.median_ms"].value > 0' "$T/json"
check "who runs it sees how far it is" grep -q 'proxy' "$T/progress"
check_eq "nothing is left" "$(ls -A "$T/work"; leftovers "$T/work")" ""

env --default-signal=INT "$BIN/coldbench" doctor --work "$T/work" --only machine --json >"$T/json" 2>"$T/progress" &
pid=$!
wait_for 20 grep -q machine "$T/progress"
kill -INT $pid
wait $pid
check_eq "who is stopped says so" "$?" 130
check_eq "a section that was stopped says nothing" "$(jq -c '[.sections, .passed]' "$T/json")" '[{},false]'
check_eq "nothing is left then, either" "$(ls -A "$T/work"; leftovers "$T/work")" ""

doctor --only machine --quick >"$T/text" 2>/dev/null
check_match "people get a table" "$(cat "$T/text")" '^ *drop|/proc/sys/vm/drop_caches +yes +ok'
check_fails "an unknown section is refused" doctor --only weather
check_fails "an unknown engine is refused" doctor --engine abacus
finish
