/*
 * contentd, driven by contentctl: images on demand, fetched and unpacked whole, or with nothing fetched that is not read (slow,
 * and the measure of what a start touches).
 */
#include "bench/coldbench/engines/daemon.h"
#include "bench/coldbench/engines/engines.h"
#include "bench/coldbench/engines/leftovers.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"
#include "bench/coldbench/peers/room.h"

#include <fcntl.h>
#include <string.h>

#define MOUNT_NS (60 * NS_PER_S)

struct own {
	struct daemon daemon;
	struct room *room; /* crun's, else that of everybody */
	char *name;        /* of the namespace, and so of the control groups */
	char *contentctl, *socket;
};

static bool has_crun(const struct engine_options *o)
{
	return o->runtime && !strcmp(o->runtime, "crun");
}

static int probe(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	AUTO_FREE char *contentd = NULL;
	AUTO_FREE char *contentctl = NULL;
	const char *programs[3];

	TRY(program_beside("contentd", &contentd, err));
	TRY(program_beside("contentctl", &contentctl, err));
	programs[0] = contentd;
	programs[1] = has_crun(o) ? "crun" : "runc";
	programs[2] = NULL;
	return peers_versions("host", programs, cancel_fd, versions, err);
}

/* The beginning of each command. */
static void client(const struct engine *e, struct argv *a)
{
	const struct own *own = e->own;

	a->room = own->room;
	argv_addl(a, own->contentctl, "--address", own->socket, "--namespace", own->name, NULL);
}

static int write_config(const struct engine *e, const char *path, struct err *err)
{
	const char *text = e->kind->exact ? "[fetch]\nbackground = \"off\"\nwindow = \"none\"\n" : "";

	return file_write_atomic(AT_FDCWD, path, str_of(text), 0644, err);
}

static int start(struct engine *e, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;
	AUTO_FREE char *contentd = NULL;
	AUTO_FREE char *config = xasprintf("%s/contentd.toml", e->dir);
	struct own *own = xcalloc(1, sizeof(*own));

	e->own = own;
	own->name = leftovers_name();
	own->socket = xasprintf("%s/contentd.sock", e->dir);
	TRY(program_beside("contentd", &contentd, err));
	TRY(program_beside("contentctl", &own->contentctl, err));
	TRY(room_open(&(struct room_spec){.dir = e->dir, .one_cgroups = has_crun(e->options)}, &own->room, err));
	argv.room = own->room;
	TRY(write_config(e, config, err));
	argv_addl(&argv, contentd, "--config", config, "--root", NULL);
	argv_addf(&argv, "%s/root", e->dir);
	argv_add(&argv, "--state");
	argv_addf(&argv, "%s/state", e->dir);
	argv_addl(&argv, "--address", own->socket, NULL);
	TRY(daemon_start(&own->daemon, e, "contentd", &argv, err));
	client(e, &question);
	argv_add(&question, "info");
	return daemon_await(&own->daemon, e, &question, err);
}

static int stop(struct engine *e, struct err *err)
{
	struct own *own = STEAL(e->own);
	int r;

	if (!own)
		return 0;
	leftovers_kill(own->name);
	daemon_stop(&own->daemon);
	r = leftovers_end(e, own->name, err);
	room_close(own->room);
	free(own->name);
	free(own->contentctl);
	free(own->socket);
	free(own);
	return r;
}

static int pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	client(e, out);
	argv_addl(out, "pull", e->kind->lazy ? "--lazy=auto" : "--lazy=off", ref, NULL);
	return 0;
}

static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	client(e, out);
	argv_addl(out, "run", detach ? "--detach" : "--rm", "--net", "none", "--name", id, NULL);
	if (has_crun(e->options))
		argv_addl(out, "--runc-binary", "crun", NULL);
	argv_add(out, ref);
	argv_addv(out, args);
	return 0;
}

static int mount_image(struct engine *e, const char *ref, const char *at, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO_FREE char *log = xasprintf("%s/mount.log", e->dir);

	client(e, &argv);
	argv_addl(&argv, "mount", ref, at, NULL);
	return command_run(&argv, log, clock_mono_ns() + MOUNT_NS, e->cancel_fd, err);
}

const struct engine_kind ENGINE_CONTENTD = {
    .name = "contentd",
    .title = "contentd",
    .form = "estargz",
    .lazy = true,
    .probe = probe,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};

const struct engine_kind ENGINE_CONTENTD_PLAIN = {
    .name = "contentd-plain",
    .title = "contentd, whole images",
    .form = "gzip",
    .probe = probe,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};

const struct engine_kind ENGINE_CONTENTD_EXACT = {
    .name = "contentd-exact",
    .title = "contentd, only what is read",
    .form = "estargz",
    .lazy = true,
    .exact = true,
    .probe = probe,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};
