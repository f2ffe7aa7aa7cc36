#!/bin/bash
# Removes what is kept of earlier recipes: images, their forms, programs of other Debian suites.
#
#	bench/prune.sh [--dry-run]     a line per folder, its size first; --dry-run removes nothing
#
# What this source tree would make as it is stays, and so do eStargz images of the converter of BUILD=DIR (build/ unless it
# is set). The cache may serve several trees: each makes anew what another one has removed.
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

declare -A kept
keep() { while read -r path; do kept[$path]=1; done <<<"$1"; }
keep "$("$here/forms.sh" --current)"
for suite in trixie sid; do
	keep "$("$here/../tests/peers.sh" --path "$suite")"
	keep "$(dirname "$("$here/peers/stargz.sh" --path "$suite")")"
done

# NAME-HASH: what is made just now has other names.
bytes=0 n=0
hash=$(printf '[0-9a-f]%.0s' {1..16})
shopt -s nullglob
for path in "$cache"/{images,forms,peers}/*-$hash "$cache"/images-$hash; do
	[ -z "${kept[$path]:-}" ] || continue
	size=$(du -sB1 "$path" | cut -f1)
	bytes=$((bytes + size)) n=$((n + 1))
	printf '%8d MB  %s\n' $((size / 1000000)) "$path"
	[ -n "$dry" ] || rm -rf --one-file-system "$path"
done
printf '%8d MB  in %d folders %s\n' $((bytes / 1000000)) "$n" "${dry:+would be }removed"
