/*
 * The keys of the configuration: the only list of them. From it come the fields of struct cd_config, the parser, and
 * what `contentd config default` prints; a test holds docs/config.md against it. A new key is one entry here and one row
 * there.
 *
 *	X(kind, field, "key", "default, as TOML", constraint, when, "meaning")
 *
 * kind        TEXT, PATH (absolute or empty): char *    NUMBER: int64_t    REAL: double    SWITCH: bool
 *             NAMES (at least one identifier): struct cd_names              NUMBERS: struct cd_numbers
 *             HOSTS (of registries: host[:port], or "*"): struct cd_names
 * constraint  ANY, CHOICE("one|other"), RANGE(min, max): of a NUMBER, a REAL or each of NUMBERS, which need one
 * when        START, or RELOAD: taken again on SIGHUP (cd_config_reload)
 * meaning     one or more lines
 *
 * Keys of one table ("fetch.") stand together; those without a table come first. Units stand in names (_ms, _bytes).
 */
#ifndef CONTENTD_CONFIG_KEYS_H
#define CONTENTD_CONFIG_KEYS_H

/* clang-format off */
#define CD_CONFIG_KEYS(X) \
	X(PATH, root, "root", "\"/var/lib/contentd\"", ANY, START, \
	  "What has to survive a reboot: blobs, layers, snapshots, metadata.") \
	X(PATH, state, "state", "\"/run/contentd\"", ANY, START, \
	  "Sockets, mounts, bundles of running containers.") \
	X(PATH, address, "grpc.address", "\"\"", ANY, START, \
	  "The gRPC socket. Empty: contentd.sock in the state directory. Shims send events to <address>.ttrpc.") \
	X(NUMBER, grpc_uid, "grpc.uid", "0", RANGE(0, 4294967294), START, \
	  "Owner of the socket, who may use it.") \
	X(NUMBER, grpc_gid, "grpc.gid", "0", RANGE(0, 4294967294), START, \
	  "Group of the socket, which may use it. 0: root alone.") \
	X(NUMBERS, grpc_allowed_uids, "grpc.allowed_uids", "[]", RANGE(0, 4294967294), START, \
	  "Further users who may use it. Whoever may, can become root on this machine.") \
	X(TEXT, log_level, "log.level", "\"info\"", CHOICE("error|warn|info|debug"), RELOAD, \
	  "error, warn, info or debug. Also of contentfs.") \
	X(TEXT, log_format, "log.format", "\"text\"", CHOICE("text|json"), RELOAD, \
	  "text, or json: one object a line. Also of contentfs.") \
	X(PATH, log_file, "log.file", "\"\"", ANY, RELOAD, \
	  "Where the log goes; empty: to stderr. A reload opens it again. contentfs logs to <state>/contentfs.log.") \
	X(TEXT, metrics_address, "metrics.address", "\"\"", ANY, START, \
	  "Where Prometheus finds /metrics: the path of a UNIX socket, or IP:PORT; empty: nowhere. It asks for no\n" \
	  "credentials: a loopback address is open to everybody on this machine.") \
	X(TEXT, snapshotter_level, "snapshotter.level", "\"auto\"", CHOICE("auto|overlay|nested|tree"), START, \
	  "How images are mounted: overlay (one overlay over EROFS, objects and FUSE), nested (two overlays, older\n" \
	  "kernels), tree (FUSE serves names too, any kernel), or auto: the first of them that works here.") \
	X(NAMES, snapshotter_names, "snapshotter.names", "[\"overlayfs\", \"native\", \"stargz\"]", ANY, START, \
	  "Names under which clients ask for it; all behave alike. The first one is used by pulls that name none.") \
	X(NAMES, snapshotter_proxy_names, "snapshotter.proxy_names", "[\"contentd\"]", ANY, START, \
	  "Names under which a real containerd has it as a proxy plugin: each is one key space, of that containerd.") \
	X(TEXT, fetch_background, "fetch.background", "\"on\"", CHOICE("on|off|eager"), START, \
	  "The rest of a lazily pulled image: on (when nobody waits for anything else), eager (at once), off (never).") \
	X(NUMBER, fetch_background_quiet_ms, "fetch.background_quiet_ms", "500", RANGE(1, 3600000), START, \
	  "With on: begin when nobody has waited for this long, in milliseconds.") \
	X(TEXT, fetch_window, "fetch.window", "\"auto\"", CHOICE("auto|none"), START, \
	  "What a read of something that is not here brings along: auto (its neighbours, as many as cost no time), or none\n" \
	  "(less bytes, more requests: with background = \"off\" nothing comes that nobody has read).") \
	X(SWITCH, fetch_prove, "fetch.prove", "true", ANY, START, \
	  "Lazy layers that are here as a whole are held against their image: the DiffID, and the table of contents against\n" \
	  "the tar. What is false is pulled as an ordinary layer from then on. Costs about a fifth of the CPU of a fill.") \
	X(TEXT, fetch_gzip_index, "fetch.gzip_index", "\"off\"", CHOICE("off|publish"), START, \
	  "Seekable indexes of ordinary gzip layers, with which others can fetch them on demand: publish (what a pull unpacks\n" \
	  "gets one on the way, and when the image is stored they are pushed beside it, which needs the right to), or off.") \
	X(NUMBER, fetch_gzip_index_timeout_ms, "fetch.gzip_index_timeout_ms", "60000", RANGE(1, 86400000), START, \
	  "With publish: how long a pull, whose image is here by then, waits for a registry to take the indexes of it. Then it\n" \
	  "goes on without.") \
	X(HOSTS, fetch_gzip_index_hosts, "fetch.gzip_index_hosts", "[]", ANY, START, \
	  "Registries (host[:port]) that are asked whether somebody has put gzip indexes beside an image (contentctl convert\n" \
	  "--index-only): its ordinary gzip layers are lazy then. Nobody vouches for such an index but who may push there; \"*\"\n" \
	  "is every registry. Empty: none is asked.") \
	X(NUMBER, fetch_read_timeout_ms, "fetch.read_timeout_ms", "60000", RANGE(1, 86400000), START, \
	  "A read of a file that is not here yet fails with EIO after this many milliseconds.") \
	X(NUMBER, fetch_answer_timeout_ms, "fetch.answer_timeout_ms", "15000", RANGE(1, 86400000), START, \
	  "A registry that does not answer for this many milliseconds is asked once more, on a new connection; then what was\n" \
	  "asked for has failed. Reads of files go on trying, for read_timeout_ms.") \
	X(NUMBER, fetch_contentfs_timeout_ms, "fetch.contentfs_timeout_ms", "30000", RANGE(100, 86400000), START, \
	  "What asks contentfs for something that needs no network, as a collection does, fails after this many\n" \
	  "milliseconds without an answer.") \
	X(PATH, fetch_certs_dir, "fetch.certs_dir", "\"/etc/contentd/certs.d\"", ANY, START, \
	  "Registry hosts: mirrors and certificates, <certs_dir>/<host>/hosts.toml as containerd has it, or ca.crt.") \
	X(PATH, fetch_docker_config, "fetch.docker_config", "\"\"", ANY, START, \
	  "Where registry credentials are for snapshots that a client asks for by labels, in whatever namespace. Empty:\n" \
	  "where docker login puts them ($DOCKER_CONFIG, else ~/.docker), for snapshotter.proxy_names alone. A file that\n" \
	  "is not there has none.") \
	X(SWITCH, keep_layer_blobs, "content.keep_layer_blobs", "true", ANY, START, \
	  "Keep the compressed blobs of layers that are pulled whole. Without them push and export fetch them again.") \
	X(TEXT, content_sharing, "content.sharing", "\"shared\"", CHOICE("shared|isolated"), START, \
	  "What a namespace gets of blobs that another one has: shared (it need not send them again), or isolated (it\n" \
	  "sends every byte, unless one that has them is labelled containerd.io/namespace.shareable=true).") \
	X(REAL, gc_pause_threshold, "gc.pause_threshold", "0.02", RANGE(0.0001, 0.5), START, \
	  "The share of time that calls may have to wait for garbage collection: the more they waited, the longer until the\n" \
	  "next run.") \
	X(NUMBER, gc_deletion_threshold, "gc.deletion_threshold", "0", RANGE(0, 1000000000), START, \
	  "Collect at once after so many deletions. 0: soon, as pause_threshold has it.") \
	X(NUMBER, gc_mutation_threshold, "gc.mutation_threshold", "100", RANGE(0, 1000000000), START, \
	  "Collect soon after so many writes, though nothing was deleted. 0: not for writes alone.") \
	X(NUMBER, gc_schedule_delay_ms, "gc.schedule_delay_ms", "0", RANGE(0, 86400000), START, \
	  "Between a reason to collect at once and the run, in milliseconds.") \
	X(NUMBER, gc_startup_delay_ms, "gc.startup_delay_ms", "100", RANGE(0, 86400000), START, \
	  "The first run after the start, in milliseconds; 0: none before there is a reason.") \
	X(TEXT, runtime_default, "runtime.default", "\"io.containerd.runc.v2\"", ANY, START, \
	  "The runtime of containers whose client names none.")
/* clang-format on */

#endif
