/*
 * podman with partial pulls: of a layer in zstd:chunked it fetches only files that its store does not have. It has no daemon;
 * an engine is a store, with a configuration of its own instead of the machine's.
 */
#include "bench/coldbench/engines/containerd_daemon.h"
#include "bench/coldbench/engines/engines.h"
#include "bench/coldbench/engines/leftovers.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"

#include <fcntl.h>
#include <string.h>

#define COMMAND_NS (60 * NS_PER_S)
#define CONFIG "config"

/* What podman and the runtimes have at fixed places: its configuration, what is kept beside its store (above all where blobs
 * were seen, which is not to be known again), and containers. */
static const struct {
	const char *ours, *at;
} PLACES[] = {
    {CONFIG, "/etc/containers"},
    {"state", "/var/lib/containers"},
    {"run-state", "/run/containers"},
    {"runc", "/run/runc"},
    {"crun", "/run/crun"},
};

struct own {
	struct room *room;
	char *name; /* of the control groups */
};

static int probe(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	return peers_versions(o->suite, (const char *[]){"podman", "conmon", containerd_runtime(o), NULL}, cancel_fd,
	                      versions, err);
}

static int write_file(const struct engine *e, const char *name, TAKE(char *) text, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/" CONFIG "/%s", e->dir, name);
	AUTO_FREE char *owned = text;

	return file_write_atomic(AT_FDCWD, path, str_of(owned), 0644, err);
}

/* Locks are files, since those in shared memory belong to all podmans of the machine. Output is kept in files, as it is on
 * machines without a journal. */
static int write_config(const struct engine *e, struct err *err)
{
	TRY(write_file(e, "containers.conf",
	               xasprintf("[engine]\nruntime = \"%s\"\ncgroup_manager = \"cgroupfs\"\nlock_type = \"file\"\n"
	                         "events_logger = \"file\"\ntmp_dir = \"%s/tmp\"\n"
	                         "[containers]\nlog_driver = \"k8s-file\"\n",
	                         containerd_runtime(e->options), e->dir),
	               err));
	TRY(write_file(e, "storage.conf",
	               xasprintf("[storage]\ndriver = \"overlay\"\ngraphroot = \"%s/storage\"\nrunroot = \"%s/run\"\n"
	                         "[storage.options]\npull_options = {enable_partial_images = \"true\", "
	                         "use_hard_links = \"false\", ostree_repos = \"\"}\n",
	                         e->dir, e->dir),
	               err));
	TRY(write_file(e, "registries.conf", xstrdup("unqualified-search-registries = []\n"), err));
	return write_file(e, "policy.json", xstrdup("{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n"), err);
}

static int open_room(const struct engine *e, struct own *own, struct err *err)
{
	struct room_bind binds[ARRAY_LEN(PLACES) + 1] = {{0}};
	AUTO(argv) struct argv from = ARGV_INIT;
	AUTO_FREE char *root = NULL;

	TRY(peers_root(e->options->suite, e->cancel_fd, &root, err));
	for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
		argv_addf(&from, "%s/%s", e->dir, PLACES[i].ours);
	for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
		binds[i] = (struct room_bind){from.p[i], PLACES[i].at};
	return room_open(&(struct room_spec){.root = root,
	                                     .dir = e->dir,
	                                     .one_cgroups = !strcmp(containerd_runtime(e->options), "crun"),
	                                     .binds = binds},
	                 &own->room, err);
}

/* The beginning of a command line. Warnings, such as that of old control groups, would come before each answer. */
static void client(const struct engine *e, struct argv *out)
{
	const struct own *own = e->own;

	out->room = own->room;
	argv_addl(out, "podman", "--log-level=error", NULL);
}

static int ask(const struct engine *e, const struct argv *argv, struct err *err)
{
	AUTO_FREE char *log = xasprintf("%s/podman.log", e->dir);

	return command_run(argv, log, clock_mono_ns() + COMMAND_NS, e->cancel_fd, err);
}

/* The first command makes the store, as the start of a daemon would. */
static int start(struct engine *e, struct err *err)
{
	struct own *own = xcalloc(1, sizeof(*own));
	AUTO(argv) struct argv argv = ARGV_INIT;

	e->own = own;
	own->name = leftovers_name();
	TRY(open_room(e, own, err));
	TRY(write_config(e, err));
	client(e, &argv);
	argv_add(&argv, "images");
	return ask(e, &argv, err);
}

static int stop(struct engine *e, struct err *err)
{
	struct own *own = e->own;
	int r;

	if (!own)
		return 0;
	r = leftovers_end(e, own->name, err);
	room_close(own->room);
	free(own->name);
	free(own);
	e->own = NULL;
	return r;
}

/* A registry that may speak plain HTTP is asked with TLS first: one connection more. */
static int pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	client(e, out);
	argv_addl(out, "pull", "--quiet", "--tls-verify=false", ref, NULL);
	return 0;
}

/* As the other engines do: without a seccomp filter, with the capabilities that containerd gives and podman does not. */
static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	client(e, out);
	argv_addl(out, "run", detach ? "--detach" : "--rm", "--pull=never", "--network=none",
	          "--security-opt=seccomp=unconfined", "--cap-add=MKNOD,NET_RAW,AUDIT_WRITE", "--name", id,
	          "--cgroup-parent", NULL);
	argv_addf(out, "/%s", own->name);
	argv_add(out, ref);
	argv_addv(out, args);
	return 0;
}

/* It chooses the place itself, in its store. */
static int mount_image(struct engine *e, const char *ref, const char *at, struct err *err)
{
	const struct own *own = e->own;
	AUTO(argv) struct argv argv = ARGV_INIT;

	argv.room = own->room;
	argv_addl(&argv, "sh", "-c", "from=$(podman image mount \"$0\") && mount --bind -o ro \"$from\" \"$1\"", ref,
	          at, NULL);
	return ask(e, &argv, err);
}

const struct engine_kind ENGINE_PODMAN = {
    .name = "podman",
    .title = "podman, partial pulls",
    .form = "zstdchunked",
    .of_suite = true,
    .probe = probe,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};
