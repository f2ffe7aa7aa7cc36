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
	AUTO_FREE char *path = xasprintf("%s/%s", e->dir, name);
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

/* What podman and the runtimes keep at fixed places, above all where blobs were seen, which is not to be known again. */
static int open_room(const struct engine *e, struct own *own, struct err *err)
{
	static const char *const PLACES[] = {"/var/lib/containers", "/run/containers", "/run/runc", "/run/crun"};
	struct room_bind binds[ARRAY_LEN(PLACES) + 1] = {{0}};
	AUTO(argv) struct argv from = ARGV_INIT;
	AUTO_FREE char *root = NULL;

	TRY(peers_root(e->options->suite, &root, err));
	for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
		argv_addf(&from, "%s/place%zu", e->dir, i);
	for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
		binds[i] = (struct room_bind){from.p[i], PLACES[i]};
	return room_open(&(struct room_spec){.root = root,
	                                     .dir = e->dir,
	                                     .one_cgroups = !strcmp(containerd_runtime(e->options), "crun"),
	                                     .binds = binds},
	                 &own->room, err);
}

/* The beginning of a command line. */
static void client(const struct engine *e, const char *program, struct argv *out)
{
	const struct own *own = e->own;

	room_enter(own->room, out);
	argv_add(out, "env");
	argv_addf(out, "CONTAINERS_CONF=%s/containers.conf", e->dir);
	argv_addf(out, "CONTAINERS_STORAGE_CONF=%s/storage.conf", e->dir);
	argv_addf(out, "CONTAINERS_REGISTRIES_CONF=%s/registries.conf", e->dir);
	/* a line of complaint before each answer */
	argv_addl(out, "PODMAN_IGNORE_CGROUPSV1_WARNING=1", program, NULL);
}

static int ask(const struct engine *e, const struct argv *argv, struct err *err)
{
	AUTO_FREE char *log = xasprintf("%s/podman.log", e->dir);

	return command_run((const char *const *)argv->p, log, clock_mono_ns() + COMMAND_NS, -1, err);
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
	client(e, "podman", &argv);
	argv_addl(&argv, "images", NULL);
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
	client(e, "podman", out);
	argv_addl(out, "pull", "--quiet", "--tls-verify=false", "--signature-policy", NULL);
	argv_addf(out, "%s/policy.json", e->dir);
	argv_add(out, ref);
	return 0;
}

/* As the other engines do: without a seccomp filter, with the capabilities that containerd gives and podman does not. */
static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	client(e, "podman", out);
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
	AUTO(argv) struct argv argv = ARGV_INIT;

	client(e, "sh", &argv);
	argv_addl(&argv, "-c", "from=$(podman image mount \"$0\") && mount --bind -o ro \"$from\" \"$1\"", ref, at,
	          NULL);
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
