#!/bin/bash
# Makes real images of several layers for demonstrations, tests and benchmarks, as OCI layouts with plain gzip layers.
#
#	bench/images.sh [java|python|shell]...     default: all
#
# Prints the folder of each layout on stdout (its tag is "latest"); progress goes to stderr. `run IMAGE` prints a line:
#
#	java    Debian | openjdk-17-jdk-headless | /app/Hello.class       -> "hello from java ..."
#	python  Debian | python3 with numpy      | /app/hello.py          -> "hello from python ..."
#	shell   Debian | /app/hello.sh                                    -> "hello from sh"
#
# The Debian layer is the same blob in all of them. The packages come from wherever this machine's apt gets them; no
# trace of that is left in the images. Results are kept in ${CONTENTD_CACHE:-/var/cache/contentd-tests}, under a hash of
# the recipe, so that only the first call takes minutes. Needs root.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=${CONTENTD_CACHE:-/var/cache/contentd-tests}
# Times in the images, and the seed of whatever else would differ from one build to the next: 2025-01-01.
export SOURCE_DATE_EPOCH=1735689600 LC_ALL=C.UTF-8 TZ=UTC
unset PYTHONHOME PYTHONPATH

say() { printf 'images: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

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

# How this machine's apt reaches its mirror, and that alone, as a configuration file for mmdebstrap.
apt_transport() {
	apt-config dump | grep -E '^Acquire::(https?::|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)' || true
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

# config FILE NAME ENTRYPOINT-JSON CMD-JSON ENV...: the image configuration without its layers.
config() {
	local file=$1 name=$2 entrypoint=$3 cmd=$4
	shift 4
	jq -n --arg arch "$oci_arch" --arg name "$name" --argjson entrypoint "$entrypoint" --argjson cmd "$cmd" \
		'{created: "2025-01-01T00:00:00Z", architecture: $arch, os: "linux",
		  config: {Env: $ARGS.positional, Entrypoint: $entrypoint, Cmd: $cmd, WorkingDir: "/",
			   Labels: {"org.opencontainers.image.title": $name}}}' \
		--args "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@" >"$file"
}

# finish NAME LAYER...: the layout, moved into place when it is whole.
finish() {
	local name=$1
	shift
	layer layout "$work/$name.layout" "$name" "$work/$name.config" "$@"
	mv -T "$work/$name.layout" "$store/$name"
}

build_base() {
	[ -e "$store/base/layer.gz.json" ] && return
	say "Debian $suite: file system (mmdebstrap)"
	mkdir "$work/base"
	rootfs "$work/base/root.tar"
	layer whole "$work/base/root.tar" "$work/base/layer.gz"
	mv -T "$work/base" "$store/base"
}

# build_upper NAME PACKAGES HOOK: the packages' layer and the layer of /app, in $work.
build_upper() {
	local name=$1 packages=$2 hook=$3
	say "$name: file system with $packages (mmdebstrap)"
	rootfs "$work/$name.tar" --include="$packages" --customize-hook="$hook"
	say "$name: layers"
	layer delta --without app "$store/base/root.tar" "$work/$name.tar" "$work/$name.gz"
	layer subtree "$work/$name.tar" app "$work/$name-app.gz"
	rm -f "$work/$name.tar"
}

build_java() {
	cat >"$work/Hello.java" <<'JAVA'
public class Hello {
	public static void main(String[] args) {
		System.out.println("hello from java " + System.getProperty("java.version"));
	}
}
JAVA
	# The key store of CA certificates holds the moment of its making, and the program speaks no TLS.
	build_upper java openjdk-17-jdk-headless \
		'mkdir "$1/app" && cp "'"$work"'/Hello.java" "$1/app" && chroot "$1" javac -d /app /app/Hello.java &&
			rm "$1/app/Hello.java" "$1/etc/ssl/certs/java/cacerts"'
	config "$work/java.config" java '["java"]' '["-Xshare:auto", "-cp", "/app", "Hello"]'
	finish java "$store/base/layer.gz" "$work/java.gz" "$work/java-app.gz"
}

build_python() {
	cat >"$work/hello.py" <<'PYTHON'
import platform

import numpy

square = numpy.arange(9.0).reshape(3, 3)
print("hello from python", platform.python_version(), "numpy", numpy.__version__, int((square @ square).trace()), flush=True)
PYTHON
	# With SOURCE_DATE_EPOCH set, Python compiles modules so that each start reads and hashes their sources as well;
	# what people have is compiled by time stamp. The stamps must be the clamped ones.
	build_upper python python3,python3-numpy 'mkdir "$1/app" && cp "'"$work"'/hello.py" "$1/app" &&
		find "$1"/usr/lib/python3* -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} + &&
		chroot "$1" python3 -m compileall -q -f --invalidation-mode timestamp /usr/lib/python3 /usr/lib/python3.11'
	config "$work/python.config" python '["python3"]' '["/app/hello.py"]'
	finish python "$store/base/layer.gz" "$work/python.gz" "$work/python-app.gz"
}

build_shell() {
	mkdir -p "$work/shell/app"
	printf '#!/bin/sh\necho hello from sh\n' >"$work/shell/app/hello.sh"
	chmod 755 "$work/shell/app/hello.sh" "$work/shell/app"
	tar -C "$work/shell" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		-cf "$work/shell.tar" app
	layer subtree "$work/shell.tar" app "$work/shell-app.gz"
	config "$work/shell.config" shell 'null' '["/app/hello.sh"]'
	finish shell "$store/base/layer.gz" "$work/shell-app.gz"
}

[ $# -gt 0 ] || set -- java python shell
for name; do
	case $name in
	java | python | shell) ;;
	-h | --help)
		sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
		exit 0
		;;
	*) die "unknown image '$name' (java, python, shell)" ;;
	esac
done

recipe=$( (cat "$here/images.sh" "$here/images/layers.py" && echo "$suite $arch") | sha256sum | cut -c1-16)
store=$cache/images-$recipe
built() {
	for name; do
		[ -e "$store/$name/index.json" ] || return 1
	done
}

if ! built "$@"; then
	[ "$(id -u)" -eq 0 ] || die "making images needs root (sudo bench/images.sh)"
	for tool in mmdebstrap python3 jq; do
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
	build_base
	for name; do
		built "$name" || "build_$name"
	done
fi
for name; do
	echo "$store/$name"
done
