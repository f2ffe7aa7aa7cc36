# shellcheck shell=bash
# What scripts share that make something of packages of another Debian suite, once a machine.
#
#	debian_mirror                      the mirror from which this machine has its own suite
#	apt_transport                      how this machine's apt reaches it, and that alone, as a configuration for mmdebstrap
#	debian_apt_conf FILE               the same, into a file
#	made_once PATH MAKER [ARG...]      makes PATH unless it is there: MAKER ARG... WORK leaves it at WORK/result
#
# What made_once makes appears whole or not at all, and of several makers one works; WORK, a folder beside it, is removed
# in any case. `say` and `die` are the caller's.

debian_mirror() {
	local own site
	own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk -v suite="$own" '$2 == suite && $3 == "main" && !site { site = $1 } END { print site }')
	printf '%s\n' "${site:-http://deb.debian.org/debian}"
}

apt_transport() {
	apt-config dump | grep -E '^Acquire::(https?::|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)' || true
}

debian_apt_conf() { apt_transport >"$1"; }

made_once() {
	local path=$1 dir=${1%/*} name
	name=$(basename "${path%-*}") # without the recipe's hash
	shift
	[ ! -e "$path" ] || return 0
	mkdir -p "$dir"
	exec 9>"$dir/$name.lock"
	flock -n 9 || {
		say "somebody else makes $name, waiting"
		flock 9
	}
	if [ ! -e "$path" ]; then
		# What a killed maker left; nobody else is here, since we hold the lock.
		rm -rf --one-file-system "$dir/tmp-$name".*
		made_work=$(mktemp -d "$dir/tmp-$name.XXXXXX")
		trap 'rm -rf --one-file-system "$made_work"' EXIT
		trap 'exit 130' INT
		trap 'exit 143' TERM HUP
		"$@" "$made_work" 9>&-
		mv -T "$made_work/result" "$path"
		rm -rf --one-file-system "$made_work"
		trap - EXIT INT TERM HUP
	fi
	exec 9>&-
}
