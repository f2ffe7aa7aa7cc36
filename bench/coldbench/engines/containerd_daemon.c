/* A containerd of its own, and its ctr. */
#include "bench/coldbench/engines/containerd_daemon.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/engines/leftovers.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"
#include "bench/coldbench/peers/room.h"

#include <fcntl.h>
#include <string.h>

#define MOUNT_NS (60 * NS_PER_S)

/* What engine.own is. */
struct containerd {
	struct daemon daemon, plugin;
	struct room *room;
	char *name; /* of the namespace, and the folder of the control groups */
	char *socket, *plugin_socket, *fifos;
	const char *snapshotter, *runtime; /* static */
};

/* Nothing that pulls and runs is left out; the rest costs time at the start, or complains on machines that lack something.
 * Names are those of 1.6 to 2.x; unknown ones are ignored. */
static const char DISABLED[] =
    "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", "
    "\"io.containerd.cri.v1.runtime\",\n"
    "\t\"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\",\n"
    "\t\"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.aufs\", "
    "\"io.containerd.nri.v1.nri\",\n"
    "\t\"io.containerd.tracing.processor.v1.otlp\", \"io.containerd.internal.v1.tracing\"]\n";

const char *containerd_runtime(const struct engine_options *o)
{
	return o->runtime && !strcmp(o->runtime, "crun") ? "crun" : "runc";
}

static int open_room(struct containerd *c, const struct engine *e, struct err *err)
{
	AUTO_FREE char *root = NULL;

	TRY(peers_root(e->options->suite, e->cancel_fd, &root, err));
	return room_open(&(struct room_spec){.root = root, .dir = e->dir, .one_cgroups = !strcmp(c->runtime, "crun")},
	                 &c->room, err);
}

static int write_config(const struct engine *e, const struct containerd *c, bool has_plugin, const char *path,
                        struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	buf_addf(&text, "version = 2\nroot = \"%s/containerd\"\nstate = \"%s/run\"\n%s[grpc]\naddress = \"%s\"\n",
	         e->dir, e->dir, DISABLED, c->socket);
	if (has_plugin)
		buf_addf(&text, "[proxy_plugins.%s]\ntype = \"snapshot\"\naddress = \"%s\"\n", c->snapshotter,
		         c->plugin_socket);
	return file_write_atomic(AT_FDCWD, path, buf_str(&text), 0644, err);
}

/* The beginning of a command: `program` is ctr, or one that takes the same options. */
static void client(const struct containerd *c, const char *program, struct argv *out)
{
	out->room = c->room;
	argv_addl(out, program, "--address", c->socket, "--namespace", c->name, NULL);
}

static int start_daemon(struct containerd *c, const struct engine *e, const char *config, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;

	argv.room = c->room;
	argv_addl(&argv, "containerd", "--config", config, NULL);
	TRY(daemon_start(&c->daemon, e, "containerd", &argv, err));
	client(c, "ctr", &question);
	argv_add(&question, "version");
	return daemon_await(&c->daemon, e, &question, err);
}

int containerd_start(struct engine *e, const struct containerd_spec *spec, struct err *err)
{
	AUTO_FREE char *config = xasprintf("%s/containerd.toml", e->dir);
	struct containerd *c = xcalloc(1, sizeof(*c));

	e->own = c;
	c->name = leftovers_name();
	c->socket = xasprintf("%s/containerd.sock", e->dir);
	c->plugin_socket = xasprintf("%s/plugin.sock", e->dir);
	c->fifos = xasprintf("%s/fifos", e->dir);
	c->snapshotter = spec->snapshotter;
	c->runtime = spec->runtime ?: containerd_runtime(e->options);
	TRY(open_room(c, e, err));
	if (spec->start_plugin)
		TRY(spec->start_plugin(e, c->plugin_socket, &c->plugin, err));
	TRY(write_config(e, c, spec->start_plugin != NULL, config, err));
	return start_daemon(c, e, config, err);
}

int containerd_stop(struct engine *e, struct err *err)
{
	struct containerd *c = STEAL(e->own);
	int r;

	if (!c)
		return 0;
	leftovers_kill(c->name);
	daemon_stop(&c->daemon);
	daemon_stop(&c->plugin);
	r = leftovers_end(e, c->name, err);
	room_close(c->room);
	free(c->name);
	free(c->socket);
	free(c->plugin_socket);
	free(c->fifos);
	free(c);
	return r;
}

int containerd_pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	const struct containerd *c = e->own;

	client(c, "ctr", out);
	argv_addl(out, "images", "pull", "--snapshotter", c->snapshotter, "--plain-http", ref, NULL);
	return 0;
}

int containerd_pull_lazily(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	const struct containerd *c = e->own;

	client(c, "ctr-remote", out);
	argv_addl(out, "images", "rpull", "--snapshotter", c->snapshotter, "--plain-http", ref, NULL);
	return 0;
}

int containerd_run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
                   struct argv *out, struct err *err)
{
	const struct containerd *c = e->own;

	client(c, "ctr", out);
	argv_addl(out, "run", "--snapshotter", c->snapshotter, "--runc-binary", c->runtime, "--cgroup", NULL);
	argv_addf(out, "/%s/%s", c->name, id);
	if (detach) {
		argv_addl(out, "--detach", "--log-uri", NULL);
		argv_addf(out, "file://%s.%s.log", c->fifos, id);
	} else {
		argv_addl(out, "--rm", "--fifo-dir", c->fifos, NULL);
	}
	argv_addl(out, ref, id, NULL);
	argv_addv(out, args);
	return 0;
}

int containerd_mount(struct engine *e, const char *ref, const char *at, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO_FREE char *log = xasprintf("%s/mount.log", e->dir);
	const struct containerd *c = e->own;

	client(c, "ctr", &argv);
	argv_addl(&argv, "images", "mount", "--snapshotter", c->snapshotter, ref, at, NULL);
	return command_run(&argv, log, clock_mono_ns() + MOUNT_NS, e->cancel_fd, err);
}
