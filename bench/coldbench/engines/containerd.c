/* containerd: with its own overlayfs, by runc or crun, and with contentd as its snapshotter. */
#include "bench/coldbench/engines/containerd_daemon.h"
#include "bench/coldbench/engines/engines.h"

#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"

struct own {
	struct containerd containerd;
	struct daemon contentd; /* of containerd-contentd */
	char *socket;           /* contentd's */
};

static bool has_contentd(const struct engine *e)
{
	return e->kind == &ENGINE_CONTAINERD_CONTENTD;
}

static const char *runtime_of(const struct engine *e)
{
	if (has_contentd(e))
		return containerd_runtime(e->options);
	return e->kind == &ENGINE_CONTAINERD_CRUN ? "crun" : "runc";
}

static int probe_with(const struct engine_options *o, const char *runtime, struct buf *versions, struct err *err)
{
	return peers_versions(o->suite, (const char *[]){"containerd", "ctr", runtime, NULL}, versions, err);
}

static int probe_runc(const struct engine_options *o, struct buf *versions, struct err *err)
{
	return probe_with(o, "runc", versions, err);
}

static int probe_crun(const struct engine_options *o, struct buf *versions, struct err *err)
{
	return probe_with(o, "crun", versions, err);
}

static int probe_contentd(const struct engine_options *o, struct buf *versions, struct err *err)
{
	AUTO_FREE char *contentd = NULL;

	TRY(program_beside("contentd", &contentd, err));
	TRY(peers_versions("host", (const char *[]){contentd, "ctr-remote", NULL}, versions, err));
	return probe_with(o, containerd_runtime(o), versions, err);
}

static int start_contentd(const struct engine *e, struct own *own, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;
	AUTO_FREE char *contentd = NULL;
	AUTO_FREE char *contentctl = NULL;

	TRY(program_beside("contentd", &contentd, err));
	TRY(program_beside("contentctl", &contentctl, err));
	own->socket = xasprintf("%s/contentd.sock", e->dir);
	argv_addl(&argv, contentd, "--root", NULL);
	argv_addf(&argv, "%s/contentd", e->dir);
	argv_add(&argv, "--state");
	argv_addf(&argv, "%s/contentd-state", e->dir);
	argv_addl(&argv, "--address", own->socket, NULL);
	TRY(daemon_start(&own->contentd, e, "contentd", &argv, err));
	argv_addl(&question, contentctl, "--address", own->socket, "info", NULL);
	return daemon_await(&own->contentd, e, &question, err);
}

/* contentd runs outside of the room, whose containerd sees what it mounts below e->dir. */
static int start(struct engine *e, struct err *err)
{
	struct own *own = xcalloc(1, sizeof(*own));
	struct containerd_spec spec = {.snapshotter = "overlayfs", .runtime = runtime_of(e)};

	e->own = own;
	TRY(containerd_open(&own->containerd, e, spec.runtime, err));
	if (has_contentd(e)) {
		TRY(start_contentd(e, own, err));
		spec.snapshotter = "contentd";
		spec.plugin = own->socket;
	}
	return containerd_start(&own->containerd, e, &spec, err);
}

static void end_contentd(const struct engine *e)
{
	struct own *own = e->own;

	daemon_stop(&own->contentd);
}

static int stop(struct engine *e, struct err *err)
{
	struct own *own = e->own;
	int r;

	if (!own)
		return 0;
	r = containerd_stop(&own->containerd, e, end_contentd, err);
	free(own->socket);
	free(own);
	e->own = NULL;
	return r;
}

static int pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	containerd_pull(&own->containerd, ref, out);
	return 0;
}

/* ctr of 1.6 and 1.7 does not tell a snapshotter which layer it unpacks, ctr-remote does; it needs the socket alone. */
static int pull_lazily(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	argv_addl(out, "ctr-remote", "--address", own->containerd.socket, "--namespace", own->containerd.name, "images",
	          "rpull", "--snapshotter", own->containerd.snapshotter, "--plain-http", ref, NULL);
	return 0;
}

static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	containerd_run(&own->containerd, ref, id, detach, args, out);
	return 0;
}

static int mount_image(struct engine *e, const char *ref, const char *at, struct err *err)
{
	const struct own *own = e->own;

	return containerd_mount(&own->containerd, e, ref, at, err);
}

const struct engine_kind ENGINE_CONTAINERD = {
    .name = "containerd",
    .title = "containerd + overlayfs",
    .form = "gzip",
    .probe = probe_runc,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};

const struct engine_kind ENGINE_CONTAINERD_CRUN = {
    .name = "containerd-crun",
    .title = "containerd + overlayfs, crun",
    .form = "gzip",
    .probe = probe_crun,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
    .mount = mount_image,
};

const struct engine_kind ENGINE_CONTAINERD_CONTENTD = {
    .name = "containerd-contentd",
    .title = "containerd + contentd as its snapshotter",
    .form = "estargz",
    .lazy = true,
    .probe = probe_contentd,
    .start = start,
    .stop = stop,
    .pull = pull_lazily,
    .run = run,
    .mount = mount_image,
};
