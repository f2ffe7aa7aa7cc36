#!/bin/bash
# The images of bench/images.sh in the forms that their layers can have in a registry.
#
#	bench/forms.sh IMAGE FORM     makes it, once; prints the folder of its OCI layout, whose tag is "latest"
#	bench/forms.sh --current      the folders of all of them, there or not
#	bench/forms.sh --list         a line per image and form: image, form, ready condition, folder of the layout or "-"
#
#	gzip           what bench/images.sh makes
#	zstd           the same tars in zstd, by skopeo
#	estargz        eStargz by our own converter, of this tree's build or that of BUILD=DIR: chunks of 256 KiB
#	estargz-64k    ... in chunks of 64 KiB; estargz-128k, -512k, -1m, -4m likewise
#	estargz-pack64k  ... with small files together in members of 64 KiB; estargz-pack256k likewise
#	esgz           eStargz by ctr-remote
#	esgz-opt       ... optimized: it runs the image until it is ready, what was read stands in front
#	zstdchunked    zstd:chunked as podman reads it, by the skopeo of Debian sid
#
# Results are kept in ${CONTENTD_CACHE:-/var/cache/contentd-tests}/forms, under a hash of the image, of how it is made and
# of the program that makes it. What nobody asked for in a week goes; of our own converter, whose every build is another
# program, what nobody asked for in an hour. ctr-remote works through a containerd with a root of its own. Needs root.
set -euo pipefail
# Whoever we wait for is stopped, too, and cleans up: we end after that, since the group is killed once we are gone.
trap 'exit 130' INT
trap 'exit 143' TERM HUP
here=$(dirname "$(readlink -f "$0")")
cache=${CONTENTD_CACHE:-/var/cache/contentd-tests}
store=$cache/forms
bin=${BUILD:-$here/../build}/bin
forms=(gzip zstd estargz estargz-64k estargz-128k estargz-512k estargz-1m estargz-4m
	estargz-pack64k estargz-pack256k esgz esgz-opt zstdchunked)

say() { printf 'forms: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

make_zstd() { skopeo copy --quiet --insecure-policy --dest-compress-format zstd "oci:$source:latest" "oci:$1:latest"; }

# ours DIR OPTION...
ours() { "$bin/contentctl" convert --quiet "${@:2}" "oci:$source:latest" "oci:$1:latest"; }
make_estargz() { ours "$1" --format estargz; }
make_estargz-64k() { ours "$1" --format estargz --chunk-size 64; }
make_estargz-128k() { ours "$1" --format estargz --chunk-size 128; }
make_estargz-512k() { ours "$1" --format estargz --chunk-size 512; }
make_estargz-1m() { ours "$1" --format estargz --chunk-size 1024; }
make_estargz-4m() { ours "$1" --format estargz --chunk-size 4096; }
make_estargz-pack64k() { ours "$1" --format estargz --min-chunk-size 64; }
make_estargz-pack256k() { ours "$1" --format estargz --min-chunk-size 256; }

make_zstdchunked() {
	peer sid skopeo copy --quiet --insecure-policy --dest-compress-format zstd:chunked --dest-force-compress-format \
		"oci:$source:latest" "oci:$1:latest"
}

# A containerd, without CRI and with everything below $T; images come and go through a registry.
start_containerd() {
	require containerd ctr-remote runc
	start_registry
	mkdir "$T/c"
	cat >"$T/c/config.toml" <<-END
		version = 2
		root = "$T/c/root"
		state = "$T/c/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
			"io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
			"io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
		[grpc]
		address = "$T/c/sock"
	END
	defer sweep_cgroup "/$namespace"
	defer sweep "$T/c"
	start containerd containerd --config "$T/c/config.toml"
	wait_for 30 ctr --address "$T/c/sock" version || start_failed containerd
}

# Its name is that of its containers' control group, too.
namespace=forms-$$
remote() { ctr-remote --address "$T/c/sock" --namespace "$namespace" "$@"; }

# through_containerd DIR COMMAND...: `COMMAND... FROM TO` of ctr-remote, between two layouts.
through_containerd() {
	local dir=$1
	shift
	start_containerd
	push_layout "$source" bench/image:gzip
	remote images pull --plain-http "$REGISTRY/bench/image:gzip"
	"$@" "$REGISTRY/bench/image:gzip" "$REGISTRY/bench/image:form"
	remote images push --plain-http "$REGISTRY/bench/image:form"
	skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$REGISTRY/bench/image:form" "oci:$dir:latest"
}

make_esgz() { through_containerd "$1" remote images convert --estargz --oci; }

# What a client of the server would have it read: asked for in the container's own network, once it answers.
visit() {
	local pid
	while sleep 0.2; do
		pid=$(remote tasks list 2>/dev/null | awk 'NR > 1 && $3 == "RUNNING" { print $2; exit }')
		[ -n "$pid" ] || continue
		case $ready in
		http:*) nsenter -t "$pid" -n curl -sf "http://127.0.0.1:${ready#http:}" && return ;;
		tcp:*) nsenter -t "$pid" -n bash -c ': >"/dev/tcp/127.0.0.1/$0"' "${ready#tcp:}" && return ;;
		*) return ;;
		esac
	done
}

# The program is ended when the period is over, or ends before it.
optimize() {
	visit >/dev/null 2>&1 &
	defer stop_pid $!
	remote images optimize --oci --period 15 "$@" </dev/null
}

# It makes an image without a word, too, when the program did not get far, so look.
make_esgz-opt() {
	through_containerd "$1" optimize
	python3 "$here/images/prefetched.py" "$1" $reads || bail "$image was not optimized for what it reads"
}

# sum_of PROGRAM...
sum_of() {
	local program path
	for program; do
		path=$(command -v "$program") || die "no program $program: run cmake/setup.sh, or say where the build is (BUILD=DIR)"
		cat "$path"
	done | sha256sum
}

# recipe_of FORM: what its bytes hang on beside the image. A root of sid stays as it was made.
recipe_of() {
	declare -f "make_$1"
	case $1 in
	zstd) sum_of skopeo ;;
	estargz*) declare -f ours && sum_of "$bin/contentctl" "$bin/content-convert" ;;
	esgz) sum_of ctr-remote ;;
	esgz-opt) declare -f optimize visit && sum_of ctr-remote ;;
	esac
}

# path SOURCE IMAGE FORM: the folder of an image in a form; `recipes` has what its form hangs on.
declare -A recipes
path() {
	local key
	key=$(printf '%s\n' "${1##*/}" "${recipes[$3]}" | sha256sum)
	printf '%s/%s-%s-%s\n' "$store" "$2" "$3" "${key:0:16}"
}

known() { [[ " ${forms[*]} " == *" $1 "* ]] || die "no form '$1' (there are: ${forms[*]})"; }

read_recipes() {
	local form
	for form in "${forms[@]}"; do
		[ "$form" = gzip ] || recipes[$form]=$(recipe_of "$form")
	done
}

# Half a list is worse than none: who prunes would take the rest for old. An assignment's failure ends us.
current() {
	local layouts layout name form
	read_recipes
	layouts=$("$here/images.sh" --current)
	while read -r layout; do
		echo "$layout"
		name=${layout##*/}
		name=${name%-*}
		[ "$name" != base ] || continue # a layer, which has no forms
		for form in "${forms[@]}"; do
			[ "$form" = gzip ] || path "$layout" "$name" "$form"
		done
	done <<<"$layouts"
}

list() {
	local images image ready layout form made
	read_recipes
	images=$("$here/images.sh" --list)
	while IFS=$'\t' read -r image ready layout _; do
		for form in "${forms[@]}"; do
			made=$layout
			[ "$layout" = - ] || [ "$form" = gzip ] || made=$(path "$layout" "$image" "$form")
			[ -e "$made/index.json" ] || made=-
			printf '%s\t%s\t%s\t%s\n' "$image" "$form" "$ready" "$made"
		done
	done <<<"$images"
}

case ${1:-} in
--current | --list)
	"${1#--}"
	exit
	;;
-h | --help)
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
	exit
	;;
esac
[ $# -eq 2 ] || die "usage: forms.sh IMAGE FORM (or --help)"
image=$1 form=$2
known "$form"
source=$("$here/images.sh" "$image")
[ "$form" != gzip ] || {
	echo "$source"
	exit
}
recipes[$form]=$(recipe_of "$form")
layout=$(path "$source" "$image" "$form")
if [ -e "$layout/index.json" ]; then
	touch "$layout" 2>/dev/null || true # asked for now
	echo "$layout"
	exit
fi

[ "$(id -u)" -eq 0 ] || die "making forms needs root (sudo bench/forms.sh)"
making=$store/making
mkdir -p "$making"
exec 9>"$making/$image-$form.lock"
flock -n 9 || {
	say "$image: $form is made just now, waiting for it"
	flock 9
}
[ ! -e "$layout/index.json" ] || {
	echo "$layout"
	exit
}
export TMPDIR=$making
. "$here/../tests/lib.sh" # registry, processes, clean-up
set -eE
T_FINISHED=1 # counts no assertions
export TMPDIR=$T
. "$here/images/$image/recipe" # ready, reads
say "$image: $form"
exec 3>&1 4>&2 >"$T/make.log" 2>&1
# Why it failed; who stopped it knows.
told() { [ -n "${made:-}${stopped:-}" ] || tail -n 30 "$T/make.log" >&4; }
defer told
trap 'stopped=1; exit 130' INT
trap 'stopped=1; exit 143' TERM HUP
"make_$form" "$T/layout"
[ -s "$T/layout/index.json" ] || bail "no layout"
mv -T "$T/layout" "$layout"
made=1
exec >&3 2>&4
# old FOLDER NAME AGE COMMAND...: what is of that name and age in it.
old() { find "$1" -mindepth 1 -maxdepth 1 -type d -name "$2" "$3" "$4" -exec "${@:5}" {} +; }
# Nobody asked for them. They go from sight in one piece, since half a form passes for a whole one, and then with $T;
# others may be at it just now.
mkdir "$T/dropped"
old "$store" '*-estargz*-????????????????' -mmin +60 mv -t "$T/dropped" 2>/dev/null || true
old "$store" '*-????????????????' -mtime +7 mv -t "$T/dropped" 2>/dev/null || true
# Their makers were killed.
old "$making" 'cdtest.*' -mmin +60 rm -rf --one-file-system
echo "$layout"
