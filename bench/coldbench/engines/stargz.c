/* containerd with stargz-snapshotter, as its documentation sets it up: the snapshotter's own configuration is empty, so a layer
 * is fetched to its end in the background, and ctr-remote pulls. */
#include "bench/coldbench/engines/containerd_daemon.h"
#include "bench/coldbench/engines/engines.h"

#include "base/file.h"
#include "bench/coldbench/peers/peers.h"

#include <fcntl.h>

static int probe(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	AUTO_FREE char *stargz = NULL;

	TRY(peers_stargz(o, cancel_fd, &stargz, err));
	TRY(peers_versions("host", (const char *[]){stargz, NULL}, cancel_fd, versions, err));
	return peers_versions(o->suite, (const char *[]){"containerd", "ctr-remote", containerd_runtime(o), NULL},
	                      cancel_fd, versions, err);
}

static int start_stargz(const struct engine *e, const char *socket, struct daemon *out, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;
	AUTO_FREE char *config = xasprintf("%s/stargz.toml", e->dir);
	AUTO_FREE char *stargz = NULL;

	TRY(peers_stargz(e->options, e->cancel_fd, &stargz, err));
	/* Without the option it would read the machine's. */
	TRY(file_write_atomic(AT_FDCWD, config, STR("# defaults\n"), 0644, err));
	argv_addl(&argv, stargz, "--address", socket, "--config", config, "--root", NULL);
	argv_addf(&argv, "%s/stargz", e->dir);
	TRY(daemon_start(out, e, "stargz", &argv, err));
	argv_addl(&question, "test", "-S", socket, NULL);
	return daemon_await(out, e, &question, err);
}

static int start(struct engine *e, struct err *err)
{
	return containerd_start(e, &(struct containerd_spec){.snapshotter = "stargz", .start_plugin = start_stargz},
	                        err);
}

/* No mount: `ctr images mount` unpacks the image first, whose layers are not in the content store. */
const struct engine_kind ENGINE_CONTAINERD_STARGZ = {
    .name = "containerd-stargz",
    .title = "containerd + stargz-snapshotter",
    .form = "esgz",
    .lazy = true,
    .of_suite = true,
    .probe = probe,
    .start = start,
    .stop = containerd_stop,
    .pull = containerd_pull_lazily,
    .run = containerd_run,
};
