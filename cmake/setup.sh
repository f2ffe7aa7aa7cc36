#!/bin/bash
# Installs what contentd needs from Debian 12 and is not there yet, with apt, and nothing else.
#
#	cmake/setup.sh [build|demo|test]...     default: all three; demo and test include build
#
# Runs in a moment when nothing is missing (no root needed then). No service of an installed package is started, now or
# at the next boot, so none of their ports is taken: a temporary policy-rc.d refuses it, and what was there before is
# put back, also after a failure.
set -euo pipefail

# Needed to compile everything, unit tests included.
build=(gcc g++ make cmake ninja-build pkg-config
	libfuse3-dev libcurl4-openssl-dev libssl-dev libdeflate-dev libzstd-dev libisal-dev zlib1g-dev libarchive-dev
	librocksdb-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler libseccomp-dev libcap-dev libtomlplusplus-dev
	libcmocka-dev libyajl-dev erofs-utils)
# To run containers, make images and serve them (bench/demo.sh).
demo=(runc containerd docker-registry skopeo umoci mmdebstrap python3 jq curl ca-certificates)
# What tests/check.sh adds: sanitizers and fuzzing, a TLS front, the stock clients, tools to compare trees.
test=(clang lld libclang-rt-14-dev clang-tidy clang-format ccache git
	nginx-light openssl apache2-utils stargz-snapshotter crun busybox-static fuse3 rsync attr acl zstd xz-utils strace
	python3-grpcio)

policy=/usr/sbin/policy-rc.d
saved=$policy.saved-by-contentd
marker='# temporary, of the set-up of contentd'

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# Sets `missing` to the packages of the arguments that are not installed.
find_missing() {
	local name status
	local -A have=()
	while read -r name status; do
		[ "$status" = installed ] && have[$name]=1
	done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null)
	missing=()
	for name; do
		[ -n "${have[$name]:-}" ] || missing+=("$name")
	done
}

policy_restore() {
	if [ -f "$policy" ] && grep -qsF "$marker" "$policy"; then
		rm -f "$policy"
	fi
	if [ -e "$saved" ] || [ -L "$saved" ]; then
		mv -f "$saved" "$policy"
	fi
}

# 101 = "action forbidden" (invoke-rc.d(8)); an earlier policy waits under another name.
policy_forbid() {
	policy_restore # what a killed run may have left
	if [ -e "$policy" ] || [ -L "$policy" ]; then
		mv "$policy" "$saved"
	fi
	printf '#!/bin/sh\n%s\nexit 101\n' "$marker" >"$policy"
	chmod 755 "$policy"
}

apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >&2; }

apt_update() {
	local try
	for try in 1 2 3; do
		say "apt-get update (try $try)"
		apt update && return
		sleep $((try * 5))
	done
	return 1
}

# True when apt's lists know a version of every argument.
apt_knows() { [ "$(apt-cache policy "$@" 2>/dev/null | grep -c 'Candidate: [^(]')" -eq $# ]; }

apt_install() {
	apt_knows "$@" || apt_update || die "cannot update apt's package lists"
	apt install --no-install-recommends "$@" && return
	# The lists may be older than the mirror.
	apt_update || die "cannot update apt's package lists"
	apt install --no-install-recommends "$@" || die "apt-get could not install: $*"
}

# Services of packages that this run brought stay off after a reboot, too.
disable_services() {
	local unit
	command -v systemctl >/dev/null || return 0
	for unit; do
		if [ -e "/lib/systemd/system/$unit.service" ]; then
			systemctl --quiet disable "$unit.service" 2>/dev/null || true
		fi
	done
}

wanted=()
for group in "${@:-demo test}"; do
	for g in $group; do
		case $g in
		build) wanted+=("${build[@]}") ;;
		demo) wanted+=("${build[@]}" "${demo[@]}") ;;
		test) wanted+=("${build[@]}" "${demo[@]}" "${test[@]}") ;;
		*) die "unknown group '$g'; usage: cmake/setup.sh [build|demo|test]..." ;;
		esac
	done
done
command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
	die "this is not a Debian system (no dpkg and apt-get); contentd's set-up knows Debian 12"

readarray -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
find_missing "${wanted[@]}"
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || die "run as root (sudo cmake/setup.sh); to be installed: ${missing[*]}"

exec 9>/run/lock/contentd-setup.lock
flock 9
find_missing "${wanted[@]}" # another set-up may have been at work
[ ${#missing[@]} -gt 0 ] || exit 0
say "installing ${missing[*]}"
trap policy_restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
policy_forbid
export DEBIAN_FRONTEND=noninteractive
apt_install "${missing[@]}"
readarray -t services < <(printf '%s\n' "${missing[@]}" |
	sed -n 's/^nginx-light$/nginx/p; /^\(containerd\|docker-registry\|stargz-snapshotter\)$/p')
disable_services "${services[@]}"
find_missing "${wanted[@]}"
[ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}"
say "done"
