# shellcheck shell=bash
# Helpers of the integration tests. A test is a bash script that begins with
#
#	. "$(dirname "$0")/../lib.sh"
#
# and ends with `finish`. It owns $T, a temporary folder; whatever the helpers start (and whatever the test hands to
# `defer`) ends with the test, in reverse order, also after a failure and on Ctrl-C. Nothing outside $T is touched, all
# ports are free ones of the loopback interface, processes end by their pid.
#
#	start_registry                    REGISTRY=127.0.0.1:PORT, a docker-registry with its data in $T
#	start_registry --user NAME PASS   ... that wants a password
#	start_tls_front HOST:PORT         TLS_REGISTRY=localhost:PORT, TLS_CA=FILE: nginx with TLS and HTTP/2 before it
#	start_netproxy HOST:PORT [ARG...] NETPROXY=127.0.0.1:PORT; then: netproxy_ask stats, netproxy_ask fault ...
#	start NAME COMMAND...             any program in the background; pid in $STARTED, output in $T/NAME.log
#	sweep DIR                         ends all processes started for DIR, unmounts everything below it
#	leftovers DIR                     lists them instead: nothing, when a daemon has cleaned up after itself
#	push_layout DIR NAME[:TAG]        an OCI layout into $REGISTRY
#	make_tiny_image DIR [ARG...]      an OCI layout with every kind of entry (tests/tiny_image.py)
#	peer SUITE COMMAND...             a program of a newer Debian (tests/peers.sh)
#	start_ctr_remote                  a containerd of trixie, with images and content alone; then: remote ARG... (ctr-remote)
#	share_mounts                      what has a mount namespace of its own sees later mounts below $T, too
#	tree_list DIR                     a tree as text, a line per path, for comparing (tests/tree.py)
#	check WHAT COMMAND...             passes when the command succeeds
#	check_fails WHAT COMMAND...       ... when it fails
#	check_eq WHAT GOT WANT            ... when the texts are equal
#	check_match WHAT TEXT REGEX       ... when the text contains a match (extended expression)
#	check_same WHAT FILE FILE         ... when the files are equal
#	wait_for SECONDS COMMAND...       repeats it until it succeeds; fails when the time is over
#	finish                            prints "N passed, N failed" and exits accordingly
#
# BUILD is the folder of the build, build/ unless the environment says otherwise. PEERS are the newer Debian suites whose
# programs a test uses beside this machine's own, "trixie" unless the environment says otherwise (`make peers`: sid).
set -uo pipefail
export LC_ALL=C.UTF-8
SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$SOURCE_DIR/build}
BIN=$BUILD/bin
PEERS=${PEERS-trixie}
T_PASSED=0 T_FAILED=0 T_FINISHED=
T_PREFIX= # before the name of each check
T_DEFERRED=()
T_CLEANING=

note() { printf '# %s\n' "$*" >&2; }

# A test cannot go on.
bail() {
	printf 'FATAL: %s\n' "$*" >&2
	exit 1
}

require() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || bail "$tool is missing: run cmake/setup.sh"
	done
}

# defer COMMAND...: runs at the end of the test, last in first out.
defer() { T_DEFERRED+=("$(printf '%q ' "$@")"); }

t_cleanup() {
	local status=$? i
	[ -z "$T_CLEANING" ] || return
	T_CLEANING=1
	trap '' INT TERM HUP
	trap - ERR
	set +e
	for ((i = ${#T_DEFERRED[@]} - 1; i >= 0; i--)); do
		eval "${T_DEFERRED[i]}" || true
	done
	if [ -z "$T_FINISHED" ]; then
		printf '%s: ended before its time (status %s), %s passed, %s failed\n' "$0" "$status" "$T_PASSED" "$T_FAILED" >&2
		[ "$status" -ne 0 ] || status=1
	fi
	if [ -n "${KEEP:-}" ]; then
		note "kept $T"
	else
		rm -rf --one-file-system "$T"
	fi
	exit "$status"
}

# UNIX socket paths are short, so is this.
T=$(mktemp -d "${TMPDIR:-/tmp}/cdtest.XXXXXX") || bail "no temporary folder"
trap t_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

t_pass() {
	T_PASSED=$((T_PASSED + 1))
	printf 'ok   %s%s\n' "$T_PREFIX" "$1"
}

t_fail() {
	T_FAILED=$((T_FAILED + 1))
	printf 'FAIL %s%s\n' "$T_PREFIX" "$1"
}

check() {
	local what=$1
	shift
	if "$@" >"$T/check.out" 2>&1; then
		t_pass "$what"
	else
		t_fail "$what (status $?: $*)"
		sed 's/^/     /' "$T/check.out" | tail -n 20
	fi
}

check_fails() {
	local what=$1
	shift
	if "$@" >"$T/check.out" 2>&1; then
		t_fail "$what (succeeded: $*)"
		sed 's/^/     /' "$T/check.out" | tail -n 20
	else
		t_pass "$what"
	fi
}

check_eq() {
	if [ "$2" = "$3" ]; then
		t_pass "$1"
	else
		t_fail "$1"
		printf '     got  %s\n     want %s\n' "$2" "$3"
	fi
}

check_match() {
	if grep -qE -- "$3" <<<"$2"; then
		t_pass "$1"
	else
		t_fail "$1"
		printf '     got  %s\n     want a match of %s\n' "$2" "$3"
	fi
}

check_same() {
	if cmp -s "$2" "$3"; then
		t_pass "$1"
	else
		t_fail "$1"
		diff -u "$3" "$2" 2>&1 | sed 's/^/     /' | head -n 20
	fi
}

finish() {
	T_FINISHED=1
	printf '%s passed, %s failed\n' "$T_PASSED" "$T_FAILED"
	if [ "$T_FAILED" -eq 0 ] && [ "$T_PASSED" -gt 0 ]; then
		exit 0
	fi
	exit 1
}

wait_for() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

# True while a process that `start` began runs: the number of one that has ended may be another's by now.
is_running() { jobs -pr | grep -qx "$1"; }

# Ends a process that `start` began: politely, then not.
stop_pid() {
	local pid=$1 i
	for ((i = 0; i < 120; i++)); do
		is_running "$pid" || break
		case $i in
		0) kill -TERM "$pid" 2>/dev/null || true ;;
		100) kill -KILL "$pid" 2>/dev/null || true ;;
		esac
		sleep 0.05
	done
	wait "$pid" 2>/dev/null || true
}

# Prints the pids of processes that have the folder, or something below it, among their arguments, and of all their
# descendants, this shell and its own line of ancestors excepted.
pids_of() {
	python3 -I -S - "$1" $$ <<-'END'
		import os, sys

		prefix, me = os.fsencode(sys.argv[1]), int(sys.argv[2])
		parents, found = {}, set()
		for name in os.listdir("/proc"):
		    if not name.isdigit():
		        continue
		    try:
		        with open(f"/proc/{name}/cmdline", "rb") as source:
		            line = source.read()
		        with open(f"/proc/{name}/stat", "rb") as source:
		            parents[int(name)] = int(source.read().rpartition(b")")[2].split()[1])
		    except OSError:
		        continue
		    if any(arg == prefix or prefix + b"/" in arg for arg in line.split(b"\0")):
		        found.add(int(name))
		spared = {os.getpid()}
		while me:
		    spared.add(me)
		    me = parents.get(me, 0)
		found -= spared
		size = -1
		while len(found) != size:
		    size = len(found)
		    found |= {pid for pid, parent in parents.items() if parent in found and pid not in spared}
		print(*sorted(found))
	END
}

mounts_of() { findmnt -rno TARGET | awk -v dir="$1/" 'index($0, dir) == 1' | sort -r; }

leftovers() {
	local pid
	for pid in $(pids_of "$1"); do
		printf 'process %s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
	done
	mounts_of "$1" | sed 's/^/mount /'
}

# The control groups of the processes given that are not this shell's own, one a line.
cgroups_of() {
	local pid
	for pid; do
		cut -d: -f3- "/proc/$pid/cgroup" 2>/dev/null
	done | sort -u | grep -vxF -f <(cut -d: -f3- /proc/self/cgroup) | grep -vx / || true
}

# Ends what is left in a control group, which a container that lost its shim is, and removes the group.
sweep_cgroup() {
	local dir pids i
	find /sys/fs/cgroup -depth -type d -path "*$1" 2>/dev/null | while IFS= read -r dir; do
		for ((i = 0; i < 40; i++)); do
			rmdir "$dir" 2>/dev/null && break
			pids=$(cat "$dir/cgroup.procs" 2>/dev/null)
			# shellcheck disable=SC2086 # a list
			[ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
			sleep 0.05
		done
	done
}

sweep() {
	local dir=$1 i pids mount groups group
	pids=$(pids_of "$dir")
	# shellcheck disable=SC2086 # a list
	groups=$(cgroups_of $pids)
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
	for ((i = 0; i < 60; i++)); do
		pids=$(pids_of "$dir")
		[ -n "$pids" ] || break
		# shellcheck disable=SC2086
		[ "$i" -lt 40 ] || kill -KILL $pids 2>/dev/null || true
		sleep 0.05
	done
	for group in $groups; do
		sweep_cgroup "$group"
	done
	mounts_of "$dir" | while IFS= read -r mount; do
		umount "$mount" 2>/dev/null || umount -l "$mount"
	done
}

start() {
	local name=$1
	shift
	: >"$T/$name.log" # now: who waits for a line must not find that of an earlier one
	"$@" >"$T/$name.log" 2>&1 </dev/null &
	STARTED=$!
	defer stop_pid "$STARTED"
}

# Shows why a program that was started does not answer, and gives up.
start_failed() {
	tail -n 20 "$T/$1.log" >&2
	bail "$1 did not start"
}

# A port that nobody has just now; only for programs that cannot choose one themselves.
free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

T_REGISTRIES=0
start_registry() {
	local name auth='' user=()
	require docker-registry curl
	T_REGISTRIES=$((T_REGISTRIES + 1))
	name=registry$T_REGISTRIES
	if [ "${1:-}" = --user ]; then
		require htpasswd
		htpasswd -Bbn "$2" "$3" >"$T/$name.htpasswd" || bail "htpasswd failed"
		auth="auth: {htpasswd: {realm: contentd-test, path: $T/$name.htpasswd}}"
		user=(-u "$2:$3")
	fi
	cat >"$T/$name.yml" <<-END
		version: 0.1
		log: {level: info, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $T/$name}, delete: {enabled: true}}
		http: {addr: "127.0.0.1:0", secret: contentd-test}
		$auth
	END
	start "$name" env OTEL_TRACES_EXPORTER=none docker-registry serve "$T/$name.yml"
	wait_for 20 grep -q 'listening on' "$T/$name.log" || start_failed "$name"
	REGISTRY=$(grep -o 'listening on 127.0.0.1:[0-9]*' "$T/$name.log" | head -n 1 | cut -d' ' -f3)
	REGISTRY_DIR=$T/$name
	wait_for 20 curl -sf "${user[@]}" "http://$REGISTRY/v2/" || start_failed "$name"
}

# An authority of our own and a certificate for localhost and 127.0.0.1: $T/ca.pem, $T/tls.pem, $T/tls.key.
make_certificates() {
	[ -e "$T/tls.pem" ] && return
	require openssl
	{
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=contentd test CA" \
			-keyout "$T/ca.key" -out "$T/ca.pem" &&
			openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
				-keyout "$T/tls.key" -out "$T/tls.csr" &&
			openssl x509 -req -in "$T/tls.csr" -CA "$T/ca.pem" -CAkey "$T/ca.key" -days 3650 -out "$T/tls.pem" \
				-extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
	} >"$T/openssl.log" 2>&1 || {
		cat "$T/openssl.log" >&2
		bail "openssl failed"
	}
}

T_FRONTS=0
start_tls_front() {
	local to=$1 name port try
	require nginx
	make_certificates
	T_FRONTS=$((T_FRONTS + 1))
	name=nginx$T_FRONTS
	mkdir "$T/$name"
	# Another program may take the port between the choice and the bind.
	for try in 1 2 3; do
		port=$(free_port)
		cat >"$T/$name/conf" <<-END
			daemon off;
			pid $T/$name/pid;
			error_log stderr warn;
			worker_processes 1;
			events { worker_connections 512; }
			http {
				access_log $T/$name/access.log;
				client_body_temp_path $T/$name/body;
				proxy_temp_path $T/$name/proxy;
				fastcgi_temp_path $T/$name/fastcgi;
				uwsgi_temp_path $T/$name/uwsgi;
				scgi_temp_path $T/$name/scgi;
				client_max_body_size 0;
				keepalive_requests 100000;
				upstream registry { server $to; keepalive 32; }
				server {
					listen 127.0.0.1:$port ssl http2;
					ssl_certificate $T/tls.pem;
					ssl_certificate_key $T/tls.key;
					location / {
						proxy_pass http://registry;
						proxy_http_version 1.1;
						proxy_request_buffering off;
						proxy_buffering on;
						proxy_max_temp_file_size 0;
						proxy_set_header Connection "";
						proxy_set_header Host \$http_host;
						proxy_set_header X-Forwarded-Proto https;
					}
				}
			}
		END
		start "$name" nginx -e stderr -c "$T/$name/conf" -p "$T/$name"
		TLS_REGISTRY=localhost:$port
		TLS_CA=$T/ca.pem
		wait_for 5 curl -s --cacert "$TLS_CA" -o "$T/$name/probe" "https://$TLS_REGISTRY/v2/" && return
	done
	start_failed "$name"
}

T_PROXIES=0
start_netproxy() {
	local to=$1 name
	shift
	[ -x "$BIN/netproxy" ] || bail "$BIN/netproxy is not built"
	T_PROXIES=$((T_PROXIES + 1))
	name=netproxy$T_PROXIES
	NETPROXY_CONTROL=$T/$name.sock
	NETPROXY_LOG=$T/$name.requests
	start "$name" "$BIN/netproxy" --to "$to" --port-file "$T/$name.port" --control "$NETPROXY_CONTROL" \
		--log "$NETPROXY_LOG" "$@"
	NETPROXY_PID=$STARTED
	wait_for 10 test -s "$T/$name.port" || start_failed "$name"
	NETPROXY=127.0.0.1:$(cat "$T/$name.port")
}

netproxy_ask() { "$BIN/netproxy" --ask "$NETPROXY_CONTROL" "$@"; }

peer() { "$SOURCE_DIR/tests/peers.sh" "$@"; }

# At $T/c/sock.
start_ctr_remote() {
	mkdir "$T/c"
	cat >"$T/c/config.toml" <<-END
		version = 2
		root = "$T/c/root"
		state = "$T/c/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
		[grpc]
		address = "$T/c/sock"
	END
	defer sweep "$T/c"
	start containerd peer trixie containerd --config "$T/c/config.toml"
	wait_for 30 remote version || start_failed containerd
}
remote() { peer trixie ctr-remote --address "$T/c/sock" "$@"; }

# To be called before anything mounts or starts.
share_mounts() {
	mount --bind "$T" "$T" && mount --make-shared "$T" || bail "cannot make $T a shared mount"
	defer umount -l "$T"
}

# netproxy_get KEY: one counter.
netproxy_get() { netproxy_ask stats | jq -r ".$1"; }

# push_layout DIR NAME[:TAG] [skopeo options]
push_layout() {
	local dir=$1 name=$2
	shift 2
	require skopeo
	skopeo copy --quiet --insecure-policy --dest-tls-verify=false "$@" "oci:$dir:latest" "docker://$REGISTRY/$name"
}

make_tiny_image() { python3 "$SOURCE_DIR/tests/tiny_image.py" "$@"; }

tree_list() { python3 "$SOURCE_DIR/tests/tree.py" "$@"; }

# said CTR... run|tasks exec @LOG@ ...: what a program says that a stock ctr starts. In place of @LOG@ stands an option by
# which the shim writes it into a file: on a busy machine ctr gives up opening its FIFOs when the program ends first, ends
# well, and what stands in them is lost.
said() {
	local file
	file=$(mktemp -p "$T" said.XXXXXX)
	"${@/#@LOG@/--log-uri=file://$file}" || echo "status $?"
	cat "$file"
}
