#!/bin/bash
# Removes what is kept of earlier recipes: images, their forms, programs of other Debian suites.
#
#	bench/prune.sh [--dry-run]     a line per folder, its size first; --dry-run removes nothing
#
# What this source tree would make as it is stays, and so do eStargz images of the converter of BUILD=DIR (build/ unless it
# is set). The cache may serve several trees: each makes anew what another one has removed. Needs root, a build, and what
# cmake/setup.sh installs: programs that make a form are part of its name.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=${CONTENTD_CACHE:-/var/cache/contentd-tests}

dry=
case ${1:-} in
--dry-run) dry=1 ;;
'') ;;
*)
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
	exit 2
	;;
esac
[ "$(id -u)" -eq 0 ] || {
	echo "prune: needs root (sudo bench/prune.sh)" >&2
	exit 1
}

# Assigned before anything goes: of what cannot say all that it would make, nothing is old.
layouts=$("$here/forms.sh" --current)
declare -A kept
while read -r path; do kept[$path]=1; done <<<"$layouts"
for suite in trixie sid; do
	root=$("$here/../tests/peers.sh" --path "$suite")
	program=$("$here/peers/stargz.sh" --path "$suite")
	kept[$root]=1 kept[${program%/*}]=1
done

# remove PATH: out of its makers' sight in one piece, since they would take half a folder for a whole one.
remove() {
	mv -T "$1" "${1%/*}/pruned"
	rm -rf --one-file-system "${1%/*}/pruned"
}

if [ -z "$dry" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/prune.lock"
	flock 9
	# What a killed one left.
	rm -rf --one-file-system "$cache"/{,images/,forms/,peers/}pruned
fi
# NAME-HASH: what is made just now has other names.
bytes=0 n=0
hash=$(printf '[0-9a-f]%.0s' {1..16})
shopt -s nullglob
for path in "$cache"/{images,forms,peers}/*-$hash "$cache"/images-$hash; do
	[ -z "${kept[$path]:-}" ] || continue
	size=$(du -sB1 "$path" | cut -f1)
	bytes=$((bytes + size)) n=$((n + 1))
	printf '%8d MB  %s\n' $((size / 1000000)) "$path"
	[ -n "$dry" ] || remove "$path"
done
printf '%8d MB  in %d folders %s\n' $((bytes / 1000000)) "$n" "${dry:+would be }removed"
