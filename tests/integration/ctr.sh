#!/bin/bash
# Debian's ctr runs, watches and ends containers of images that contentctl has pulled; registries behind TLS with HTTP/2
# and behind a password; two daemons side by side.
. "$(dirname "$0")/../node.sh"
require nginx htpasswd

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
start_tls_front "$REGISTRY"
PLAIN_REGISTRY=$REGISTRY
start_registry --user bob secret
push_layout "$T/other" test/other --dest-creds bob:secret || bail "push failed"
LOCKED=$REGISTRY REGISTRY=$PLAIN_REGISTRY
image=$REGISTRY/test/tiny:lazy

# Debian's ctr makes its FIFOs below /run/containerd unless it is told otherwise.
fifos=(--fifo-dir "$T/fifo")
mkdir "$T/fifo"

stock_client() {
	local pid events task
	start_contentd stock
	ctl pull "$image" >"$T/out" 2>&1 || bail "$(cat "$T/out")"
	check_match "version" "$(ctr_ version)" 'UUID: [0-9a-f-]{36}'
	check_match "namespaces ls" "$(ctr_ namespaces ls -q)" "^$CONTENTD_NAMESPACE$"
	check_match "images ls" "$(ctr_ images ls)" "^$image +application/vnd.oci.image.manifest.v1.json sha256:"
	check_eq "content ls: manifest, configuration and layers" "$(ctr_ content ls -q | wc -l)" 5
	check_match "snapshots ls" "$(ctr_ snapshots ls)" "Committed"

	events=$T/events.$LEVEL
	ctr_ events >"$events" 2>&1 &
	pid=$!
	# A client that only listens says nothing when it is ready: something is done until it has heard of it.
	wait_for 20 eval 'ctr_ namespaces label "$CONTENTD_NAMESPACE" listening=$RANDOM; grep -q namespaces "$events"'
	check_eq "run --rm" "$(ctr_ run --rm "${fifos[@]}" "$image" once 2>&1)" "hello from tiny"
	ctr_ run --rm "${fifos[@]}" "$image" status /bin/sh -c 'exit 13' >"$T/out" 2>&1
	check_eq "run --rm: the status" $? 13
	check "run -d" ctr_ run -d "$image" stay /bin/sh -c \
		'trap end=1 TERM; echo >/tmp/ready; while [ -z "$end" ]; do sleep 0.05; done; exit 4'
	wait_for 10 test -e "$(container_root stay)/tmp/ready"
	task=$(ctr_ tasks ls | awk '$1 == "stay" {print $2 " " $3}')
	check_match "tasks ls" "$task" '^[0-9]+ RUNNING$'
	check_match "contentctl sees it, too" "$(ctl ps)" "^stay +$image +running +${task%% *} "
	check_eq "tasks exec" "$(ctr_ tasks exec "${fifos[@]}" --exec-id e1 stay /bin/cat /app/hello 2>&1 | tail -n 1)" "echo hello from tiny"
	check_match "tasks ps" "$(ctr_ tasks ps stay)" "^${task%% *} "
	check "tasks kill" ctr_ tasks kill --signal SIGTERM stay
	check "it ends" wait_for 10 eval 'ctr_ tasks ls | grep -q "^stay .*STOPPED"'
	check_match "tasks rm, with its status" "$(ctr_ tasks rm stay 2>&1)" 'stay exit with non-zero exit code 4'
	check "containers rm" ctr_ containers rm stay
	check_eq "no container is left" "$(ctr_ containers ls -q)" ""
	for topic in /containers/create /tasks/create /tasks/start /tasks/exit /tasks/delete /tasks/exec-added /tasks/exec-started \
		/containers/delete /snapshot/prepare; do
		check "an event $topic" wait_for 5 grep -q "$CONTENTD_NAMESPACE $topic " "$events"
	done
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	check "images rm" ctr_ images rm "$image"
	retire_contentd
}

registries() {
	start_contentd registries 'background = "off"'
	check_eq "a certificate of nobody we know" "$(ctl pull "$TLS_REGISTRY/test/tiny:lazy" >"$T/out" 2>&1; echo $?)" 125
	mkdir -p "$CONTENTD/certs.d/$TLS_REGISTRY"
	cp "$TLS_CA" "$CONTENTD/certs.d/$TLS_REGISTRY/ca.crt"
	stop_contentd
	sweep "$CONTENTD" # contentfs reads certificates when it starts
	restart_contentd
	: >"$(ls "$T"/nginx*/access.log)"
	check "TLS with an authority of our own" ctl pull "$TLS_REGISTRY/test/tiny:lazy"
	check_match "it runs" "$(ctl run --rm "$TLS_REGISTRY/test/tiny:lazy" 2>&1)" '^hello from tiny$'
	check_eq "all over HTTP/2" "$(grep -c 'HTTP/2.0" 206' "$T"/nginx*/access.log | awk '{print ($1 > 0)}') $(grep -c 'HTTP/1' "$T"/nginx*/access.log)" "1 0"

	check_eq "a password that nobody told" "$(DOCKER_CONFIG=$T/nothing ctl pull "$LOCKED/test/other" >"$T/out" 2>&1; echo $?)" 125
	check_match "is what the error says" "$(cat "$T/out")" "$LOCKED/test/other.*(401|unauthenticated|authori)"
	mkdir -p "$T/docker"
	jq -n --arg host "$LOCKED" --arg auth "$(printf bob:secret | base64)" '{auths: {($host): {auth: $auth}}}' >"$T/docker/config.json"
	check "the one of docker login opens" env DOCKER_CONFIG="$T/docker" "$BIN/contentctl" --address "$CONTENTD/contentd.sock" \
		pull "$LOCKED/test/other"
	check_match "and the image runs" "$(ctl run --rm "$LOCKED/test/other" 2>&1)" '^hello from tiny$'
	check_eq "no log and no file knows it" "$(grep -rlE 'bob:secret|Ym9iOnNlY3JldA' "$CONTENTD" "$T"/registries*.log)" ""
	retire_contentd
}

two() {
	local first
	start_contentd one
	first=$CONTENTD_PID
	start_contentd two
	check "two daemons" test "$first" != "$CONTENTD_PID"
	use_contentd one
	check "one pulls" ctl pull "$image"
	use_contentd two
	check_eq "the other knows nothing of it" "$(ctl images -q)" ""
	check_match "and runs it for itself" "$(ctl run --rm "$image" 2>&1)" '^hello from tiny$'
	retire_contentd
	use_contentd one
	check_match "the first goes on when the second has gone" "$(ctl run --rm "$image" 2>&1)" '^hello from tiny$'
	retire_contentd
}
everything() {
	stock_client
	registries
	two
}
at_levels everything
finish
