#!/bin/bash
# Compiles containerd-stargz-grpc, the daemon of stargz-snapshotter, which Debian's package of that name leaves out.
#
#	bench/peers/stargz.sh [trixie|sid]      default: sid; prints the path of the program
#	bench/peers/stargz.sh --path [SUITE]    prints where it is, or would be made
#
# Everything comes from Debian: the compiler, the library (golang-github-containerd-stargz-snapshotter-dev, Debian's
# patches included) and what it needs as packages of the suite, and the folder of the daemon itself, which no package has,
# from the suite's source package; apt verifies them. They are unpacked below a temporary folder (3 GB, minutes) and
# nothing is installed. The program is static, so every suite's containerd can use it, and is kept as
# ${CONTENTD_CACHE:-/var/cache/contentd-tests}/peers/stargz-SUITE-HASH/containerd-stargz-grpc, HASH being that of the recipe.
#
# What needs packages that Debian does not have is left out: credentials from Docker's and Kubernetes' configuration, and
# IPFS. The metadata store in a file ("db", not the default) has Go's own JSON parser.
# Needs root, and a Debian mirror the first time.
set -euo pipefail
export LC_ALL=C.UTF-8
source=golang-github-containerd-stargz-snapshotter
packages=base-files,dash,coreutils,mount,golang-go,$source-dev,golang-github-coreos-bbolt-dev

say() { printf 'stargz: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }

# shellcheck source=tests/debian.sh
. "$(dirname "$(readlink -f "$0")")/../../tests/debian.sh"

# fetch SUITE WORK: the unpacked packages as WORK/root, the source package's files and its version in WORK/source.
fetch() {
	local suite=$1 work=$2 site
	site=$(debian_mirror)
	mkdir "$work/source"
	debian_apt_conf "$work/apt.conf"
	# Of a source package that has just been replaced a mirror may lack some files. The hook runs once the lists are there.
	TMPDIR=$work mmdebstrap --quiet --mode=root --variant=extract --format=dir --aptopt="$work/apt.conf" \
		--extract-hook="cd '$work/source' && APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG \
			apt-get -q source --download-only --only-source $source || true
			APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-cache show --no-all-versions $source-dev |
			sed -n 's/^Version: //p' >version" \
		--include="$packages" "$suite" "$work/root" "deb $site $suite main" "deb-src $site $suite main" \
		>"$work/log" 2>&1 </dev/null || {
		cat "$work/log" >&2
		die "mmdebstrap of $suite failed"
	}
	compgen -G "$work/source/*.orig.tar.*" >/dev/null || {
		cat "$work/log" >&2
		die "$site has no source of $source in $suite; \`coldbench --stargz-grpc PATH\` takes a program made elsewhere"
	}
}

build() {
	local suite=$1 work=$2 tree version
	command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: run cmake/setup.sh"
	say "compiling containerd-stargz-grpc of $suite; this takes some minutes"
	fetch "$suite" "$work"
	tree=$work/go/src/github.com/containerd/stargz-snapshotter
	version=$(cat "$work/source/version")
	mkdir -p "$tree" "$work/result"
	cp -r "$work/root/usr/share/gocode/src/github.com/containerd/stargz-snapshotter/." "$tree"
	tar -xf "$work"/source/*.orig.tar.* -C "$tree" --strip-components=1 --wildcards '*/cmd/containerd-stargz-grpc'
	rm -rf "$tree/cmd/containerd-stargz-grpc/ipfs"
	sed -i -e '/^\t.*containerd-stargz-grpc\/ipfs"$/d; /^\t.*keychain\/\(docker\|kube\)config"$/d' \
		-e 's/{dockerconfig\..*(ctx)}/{}/' \
		-e '/^\tif config\.Config\.KubeconfigKeychainConfig\.EnableKeychain {$/,/^\t}$/d' \
		-e '/^\tif config\.IPFS {$/,/^\t}$/d' "$tree/cmd/containerd-stargz-grpc/main.go"
	sed -i 's,"github\.com/goccy/go-json","encoding/json",' "$tree"/cmd/containerd-stargz-grpc/db/*.go
	# The suite's /usr over the host's, as in tests/peers.sh.
	env -i PATH=/usr/bin:/bin HOME="$work" GOPATH="$work/go:/usr/share/gocode" GOCACHE="$work/cache" TMPDIR="$work" \
		GO111MODULE=off GOTOOLCHAIN=local GOTELEMETRY=off CGO_ENABLED=0 \
		unshare --mount --propagation slave -- /bin/sh -c '
			mount --bind /dev/null /etc/ld.so.cache && mount --bind "$0/usr" /usr && exec "$@"' "$work/root" \
		go build -C "$tree" -trimpath -o "$work/result/containerd-stargz-grpc" -ldflags \
		"-s -w -X github.com/containerd/stargz-snapshotter/version.Version=${version%%-*} \
			-X github.com/containerd/stargz-snapshotter/version.Revision=$version" \
		./cmd/containerd-stargz-grpc >"$work/log" 2>&1 </dev/null || {
		cat "$work/log" >&2
		die "containerd-stargz-grpc of $suite does not compile"
	}
}

path=
if [ "${1:-}" = --path ]; then
	path=1
	shift
fi
case ${1:-sid} in
trixie | sid) suite=${1:-sid} ;;
-h | --help)
	usage
	exit 0
	;;
*)
	usage >&2
	exit 2
	;;
esac
hash=$( (declare -f fetch build && echo "$packages") | sha256sum)
program=${CONTENTD_CACHE:-/var/cache/contentd-tests}/peers/stargz-$suite-${hash:0:16}/containerd-stargz-grpc
if [ -n "$path" ]; then
	printf '%s\n' "$program"
	exit 0
fi
[ "$(id -u)" -eq 0 ] || die "needs root (sudo bench/peers/stargz.sh)"
made_once "${program%/*}" build "$suite"
printf '%s\n' "$program"
