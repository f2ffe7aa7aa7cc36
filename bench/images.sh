#!/bin/bash
# Makes real images of several layers for demonstrations, tests and benchmarks, as OCI layouts with plain gzip layers.
#
#	bench/images.sh [NAME]...     default: all
#	bench/images.sh --current     the folders of all of them and of what they share, there or not
#	bench/images.sh --list        a line per image: name, ready condition, folder of the layout or "-", what it is
#
# Prints the folder of each layout on stdout (its tag is "latest"); progress goes to stderr. bench/forms.sh has the same
# images with their layers in other forms.
#
# An image is a folder of bench/images: `recipe` says what it is made of and when it is ready, `install ROOT` puts the
# rest into its file system, as root and outside of it. The Debian layer is the same blob in all of them, above it is a
# layer of packages, then the program's own. The packages come from wherever this machine's apt gets them; no trace of
# that is left in the images. Results are kept in ${CONTENTD_CACHE:-/var/cache/contentd-tests}/images, under a hash of
# what makes them, so that only the first call takes minutes. Needs root.
#
# When a program is ready, the label io.contentd.bench.ready of its image says:
#
#	line            a first whole line of output
#	exit            its end, with status 0
#	tcp:PORT        it accepts a connection
#	http:PORT/PATH  it answers a GET with a status below 400
#	file:/PATH      that file is there
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=${CONTENTD_CACHE:-/var/cache/contentd-tests}
# Times in the images, and the seed of whatever else would differ from one build to the next: 2025-01-01.
export SOURCE_DATE_EPOCH=1735689600 LC_ALL=C.UTF-8 TZ=UTC
unset PYTHONHOME PYTHONPATH
umask 022

say() { printf 'images: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# shellcheck source=tests/debian.sh
. "$here/../tests/debian.sh"

suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
arch=$(dpkg --print-architecture)
case $arch in
amd64) oci_arch=amd64 ;;
arm64) oci_arch=arm64 ;;
*) die "no images for $arch: contentd runs on amd64 and arm64" ;;
esac

# The machine's own sources of the Debian suite, security and updates included; foreign repositories are left out.
debian_sources() {
	apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v suite="$suite" '$3 == "main" && ($2 == suite || $2 == suite "-updates" || $2 == suite "-security") {
			print "deb", $1, $2, $3 }' | sort -u
}

# rootfs TAR [mmdebstrap options]: one Debian file system as a tar with sorted entries and clamped times.
rootfs() {
	local tar=$1
	shift
	debian_sources >"$work/sources.list"
	[ -s "$work/sources.list" ] || die "apt has no source for Debian $suite"
	apt_transport >"$work/apt.conf"
	# Traces of the machine and of the mirror go; dpkg's and apt's own logs hold times.
	mmdebstrap --quiet --mode=root --variant=minbase --format=tar --aptopt="$work/apt.conf" "$@" \
		--customize-hook='cd "$1" && rm -f etc/hostname etc/hosts etc/resolv.conf etc/machine-id
			rm -f etc/apt/apt.conf.d/99mmdebstrap var/cache/ldconfig/aux-cache var/cache/debconf/*-old
			rm -f etc/apt/sources.list.d/*; : >etc/apt/sources.list; : >etc/machine-id
			find var/log -type f -delete' \
		"$suite" "$tar" "$work/sources.list" >"$work/log" 2>&1 </dev/null || {
		cat "$work/log" >&2
		die "mmdebstrap failed"
	}
}

layer() { python3 "$here/images/layers.py" "$@"; }

# recipe NAME: sets the variables of its recipe: `about`, `packages` (none: the program runs on Debian's minimal system),
# `trees` (folders that get a layer each), `ready`, `entrypoint` and `cmd` (JSON).
recipe() {
	packages='' trees=app entrypoint=null
	. "$here/images/$1/recipe"
}

# The image configuration without its layers.
config() {
	jq -n --arg arch "$oci_arch" --arg name "$1" --arg ready "$ready" --argjson entrypoint "$entrypoint" \
		--argjson cmd "$cmd" \
		'{created: "2025-01-01T00:00:00Z", architecture: $arch, os: "linux",
		  config: {Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
			   Entrypoint: $entrypoint, Cmd: $cmd, WorkingDir: "/",
			   Labels: {"org.opencontainers.image.title": $name, "io.contentd.bench.ready": $ready}}}'
}

build_base() {
	[ ! -e "$base/layer.gz.json" ] || return 0
	say "Debian $suite: file system (mmdebstrap)"
	mkdir "$work/base"
	rootfs "$work/base/root.tar"
	layer whole "$work/base/root.tar" "$work/base/layer.gz"
	mv -T "$work/base" "$base"
}

# small_rootfs NAME TAR: the trees of an image without packages, on no Debian.
small_rootfs() {
	local tree
	# shellcheck disable=SC2086 # a list
	mkdir "$work/$1.root" && (cd "$work/$1.root" && mkdir -p $trees)
	"$here/images/$1/install" "$work/$1.root" >&2
	# shellcheck disable=SC2086
	tar -C "$work/$1.root" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf "$2" $trees
	rm -r "$work/$1.root"
}

# build NAME: the layout appears when it is whole.
build() {
	local name=$1 tar=$work/$1.tar tree layers=("$base/layer.gz") without=() include=()
	recipe "$name"
	build_base
	if [ -n "$packages" ]; then
		say "$name: file system with $packages (mmdebstrap)"
		rootfs "$tar" --include="$packages" \
			--customize-hook="(cd \"\$1\" && mkdir -p $trees) && '$here/images/$name/install' \"\$1\""
		for tree in $trees; do
			without+=(--without "$tree")
		done
		say "$name: layers"
		layer delta "${without[@]}" "$base/root.tar" "$tar" "$work/$name.gz"
		layers+=("$work/$name.gz")
	else
		say "$name: files"
		small_rootfs "$name" "$tar"
	fi
	for tree in $trees; do
		layer subtree "$tar" "$tree" "$work/$name-${tree//\//-}.gz"
		layers+=("$work/$name-${tree//\//-}.gz")
	done
	config "$name" >"$work/$name.config"
	layer layout "$work/$name.layout" "$name" "$work/$name.config" "${layers[@]}"
	mv -T "$work/$name.layout" "$(layout "$name")"
	rm -f "$tar" "$work/$name"*.gz
}

# What the bytes of layers hang on beside the recipes. Comments do not count: they would cost everybody an hour.
hash() { sha256sum | cut -c1-16; }
layers_py=$(python3 -c 'import ast, sys; print(ast.dump(ast.parse(open(sys.argv[1]).read())))' "$here/images/layers.py")
base=base-$({ echo "$layers_py" && declare -f debian_sources rootfs && echo "$suite $arch"; } | hash)
maker=$(echo "$base" && echo "$layers_py" && declare -f recipe config small_rootfs build)

# layout NAME: the folder of an image.
layout() {
	local key
	key=$(cd "$here/images/$1" && { echo "$maker" && sha256sum ./*; } | hash)
	echo "$store/$1-$key"
}

names=()
for folder in "$here"/images/*/recipe; do
	names+=("$(basename "$(dirname "$folder")")")
done
store=$cache/images
base=$store/$base

list() {
	local name path
	for name in "${names[@]}"; do
		recipe "$name"
		path=$(layout "$name")
		[ -e "$path/index.json" ] || path=-
		printf '%s\t%s\t%s\t%s\n' "$name" "$ready" "$path" "$about"
	done
}

case ${1:-} in
--list)
	list
	exit
	;;
--current)
	echo "$base"
	for name in "${names[@]}"; do
		layout "$name"
	done
	exit
	;;
-h | --help)
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
	exit
	;;
esac
[ $# -gt 0 ] || set -- "${names[@]}"
missing=()
for name; do
	[[ " ${names[*]} " == *" $name "* ]] || die "no image '$name' (there are: ${names[*]})"
	[ -e "$(layout "$name")/index.json" ] || missing+=("$name")
done

if [ ${#missing[@]} -gt 0 ]; then
	[ "$(id -u)" -eq 0 ] || die "making images needs root (sudo bench/images.sh)"
	for tool in mmdebstrap python3 jq openssl; do
		command -v $tool >/dev/null || die "$tool is missing: run cmake/setup.sh"
	done
	mkdir -p "$store"
	exec 9>"$cache/images.lock"
	flock -n 9 || {
		say "another build is at work, waiting for it"
		flock 9
	}
	# What a killed build left; nobody else is here, since we hold the lock. mmdebstrap mounts in a namespace of its own.
	rm -rf --one-file-system "$cache"/images-tmp.*
	work=$(mktemp -d "$cache/images-tmp.XXXXXX")
	trap 'rm -rf --one-file-system "$work"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	export TMPDIR=$work
	for name in "${missing[@]}"; do
		[ -e "$(layout "$name")/index.json" ] || build "$name"
	done
fi
for name; do
	layout "$name"
done
