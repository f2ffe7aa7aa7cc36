#!/bin/bash
# Programs of a newer Debian beside this machine's own: ctr, containerd and others as their next users will have them.
#
#	tests/peers.sh SUITE                       makes the root of trixie or sid, prints what is in it
#	tests/peers.sh SUITE COMMAND [ARG...]      runs a command of that suite
#	tests/peers.sh --path SUITE                prints where the root is, or would be made
#
# A command sees this machine as it is (files, sockets, network, processes, control groups, mounts made later) with
# another /usr: a private mount namespace that receives the host's mounts, and the suite's /usr bound over the host's.
# The process of the script becomes the command, so `start NAME tests/peers.sh trixie containerd ...` has its pid. What
# lies below /usr of the host is out of its sight, and mounts that it makes are out of the host's.
#
# lib.sh has `peer SUITE COMMAND...` for the foreground. What must see later mounts of the test (a containerd whose
# snapshots contentd mounts) needs them below a shared mount: lib.sh's `share_mounts`.
#
# Roots are made by mmdebstrap, once, in ${CONTENTD_CACHE:-/var/cache/contentd-tests}/peers/SUITE-HASH, HASH being that of
# the recipe: unpacked packages without their scripts, documentation left out. A root appears whole or not at all, and of
# several makers one works. It stays as it was made; `rm -r` it to have the newest. Needs root, and a Debian mirror the
# first time.
set -euo pipefail
export LC_ALL=C.UTF-8
packages=containerd,runc,crun,podman,stargz-snapshotter,skopeo,dash,coreutils,mount,iproute2

say() { printf 'peers: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }

# shellcheck source=tests/debian.sh
. "$(dirname "$(readlink -f "$0")")/debian.sh"

make_root() {
	local suite=$1 work=$2
	command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: run cmake/setup.sh"
	say "making the root of $suite (mmdebstrap)"
	debian_apt_conf "$work/apt.conf"
	TMPDIR=$work mmdebstrap --quiet --mode=root --variant=extract --format=dir --aptopt="$work/apt.conf" \
		--include="$packages" "$suite" "$work/result" "deb $(debian_mirror) $suite main" >"$work/log" 2>&1 </dev/null || {
		cat "$work/log" >&2
		die "mmdebstrap of $suite failed"
	}
	(cd "$work/result" && rm -rf var etc usr/share/{doc,man,locale,perl,zoneinfo,bash-completion,zsh} usr/lib/*/perl*)
}

path=
if [ "${1:-}" = --path ]; then
	path=1
	shift
fi
case ${1:-} in
trixie | sid) suite=$1 ;;
-h | --help)
	usage
	exit 0
	;;
*)
	usage >&2
	exit 2
	;;
esac
shift

peers=${CONTENTD_CACHE:-/var/cache/contentd-tests}/peers
hash=$( (declare -f make_root && echo "$packages") | sha256sum)
root=$peers/$suite-${hash:0:16}
if [ -n "$path" ]; then
	printf '%s\n' "$root"
	exit 0
fi
[ "$(id -u)" -eq 0 ] || die "needs root (sudo tests/peers.sh)"
made_once "$root" make_root "$suite"
if [ $# -eq 0 ]; then
	printf '%s\n' "$root"
	exec "$0" "$suite" sh -c 'ctr --version; runc --version | head -n 1; crun --version | head -n 1
		podman --version; conmon --version | head -n 1; skopeo --version'
fi
# Libraries are found where the suite has them, not where the host's cache of them says; and what skopeo once learned of
# blobs is forgotten: it would take one that another pushed, in another form, for the layer that it is to make. The shell
# that mounts has what it needs before /usr changes.
exec unshare --mount --propagation slave -- /bin/sh -c '
	mkdir -p /var/lib/containers/cache && mount -t tmpfs tmpfs /var/lib/containers/cache &&
	mount --bind /dev/null /etc/ld.so.cache && mount --bind "$0/usr" /usr && exec "$@"' "$root" "$@"
