/* containerd with stargz-snapshotter, as its documentation sets it up: the snapshotter's own configuration is empty, so a layer
 * is fetched to its end in the background, and ctr-remote pulls. */
#include "bench/coldbench/engines/containerd_daemon.h"
#include "bench/coldbench/engines/engines.h"

#include "base/file.h"
#include "bench/coldbench/peers/peers.h"

#include <fcntl.h>

struct own {
	struct containerd containerd;
	struct daemon stargz;
	char *socket;
};

static int probe(const struct engine_options *o, struct buf *versions, struct err *err)
{
	AUTO_FREE char *stargz = NULL;

	TRY(peers_stargz(o, &stargz, err));
	TRY(peers_versions("host", (const char *[]){stargz, NULL}, versions, err));
	return peers_versions(o->suite, (const char *[]){"containerd", "ctr-remote", containerd_runtime(o), NULL},
	                      versions, err);
}

/* Outside of the room, as every program that --stargz-grpc names runs there: containerd sees what it mounts below e->dir. */
static int start_stargz(const struct engine *e, struct own *own, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;
	AUTO_FREE char *config = xasprintf("%s/stargz.toml", e->dir);
	AUTO_FREE char *stargz = NULL;

	TRY(peers_stargz(e->options, &stargz, err));
	/* Without the option it would read the machine's. */
	TRY(file_write_atomic(AT_FDCWD, config, STR("# defaults\n"), 0644, err));
	own->socket = xasprintf("%s/stargz.sock", e->dir);
	argv_addl(&argv, stargz, "--address", own->socket, "--config", config, "--root", NULL);
	argv_addf(&argv, "%s/stargz", e->dir);
	TRY(daemon_start(&own->stargz, e, "stargz", &argv, err));
	argv_addl(&question, "test", "-S", own->socket, NULL);
	return daemon_await(&own->stargz, e, &question, err);
}

static int start(struct engine *e, struct err *err)
{
	struct own *own = xcalloc(1, sizeof(*own));
	struct containerd_spec spec = {.snapshotter = "stargz", .runtime = containerd_runtime(e->options)};

	e->own = own;
	TRY(containerd_open(&own->containerd, e, spec.runtime, err));
	TRY(start_stargz(e, own, err));
	spec.plugin = own->socket;
	return containerd_start(&own->containerd, e, &spec, err);
}

static void end_stargz(const struct engine *e)
{
	struct own *own = e->own;

	daemon_stop(&own->stargz);
}

static int stop(struct engine *e, struct err *err)
{
	struct own *own = e->own;
	int r;

	if (!own)
		return 0;
	r = containerd_stop(&own->containerd, e, end_stargz, err);
	free(own->socket);
	free(own);
	e->own = NULL;
	return r;
}

static int pull(struct engine *e, const char *ref, struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	containerd_client(&own->containerd, "ctr-remote", out);
	argv_addl(out, "images", "rpull", "--snapshotter", own->containerd.snapshotter, "--plain-http", ref, NULL);
	return 0;
}

static int run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
               struct argv *out, struct err *err)
{
	const struct own *own = e->own;

	containerd_run(&own->containerd, ref, id, detach, args, out);
	return 0;
}

/* No mount: `ctr images mount` unpacks the image first, whose layers are not in the content store. */
const struct engine_kind ENGINE_CONTAINERD_STARGZ = {
    .name = "containerd-stargz",
    .title = "containerd + stargz-snapshotter",
    .form = "esgz",
    .lazy = true,
    .probe = probe,
    .start = start,
    .stop = stop,
    .pull = pull,
    .run = run,
};
