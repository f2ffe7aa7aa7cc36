/* containerd: with its own overlayfs, by runc or crun, and with contentd as its snapshotter. */
#include "bench/coldbench/engines/containerd_daemon.h"
#include "bench/coldbench/engines/engines.h"

#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/peers.h"

static int probe_with(const struct engine_options *o, const char *runtime, int cancel_fd, struct buf *versions,
                      struct err *err)
{
	return peers_versions(o->suite, (const char *[]){"containerd", "ctr", runtime, NULL}, cancel_fd, versions, err);
}

static int probe_runc(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	return probe_with(o, "runc", cancel_fd, versions, err);
}

static int probe_crun(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	return probe_with(o, "crun", cancel_fd, versions, err);
}

static int probe_contentd(const struct engine_options *o, int cancel_fd, struct buf *versions, struct err *err)
{
	AUTO_FREE char *contentd = NULL;

	TRY(program_beside("contentd", &contentd, err));
	TRY(peers_versions("host", (const char *[]){contentd, NULL}, cancel_fd, versions, err));
	TRY(peers_versions(o->suite, (const char *[]){"ctr-remote", NULL}, cancel_fd, versions, err));
	return probe_with(o, containerd_runtime(o), cancel_fd, versions, err);
}

static int start_contentd(const struct engine *e, const char *socket, struct daemon *out, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(argv) struct argv question = ARGV_INIT;
	AUTO_FREE char *contentd = NULL;
	AUTO_FREE char *contentctl = NULL;

	TRY(program_beside("contentd", &contentd, err));
	TRY(program_beside("contentctl", &contentctl, err));
	argv_addl(&argv, contentd, "--root", NULL);
	argv_addf(&argv, "%s/contentd", e->dir);
	argv_add(&argv, "--state");
	argv_addf(&argv, "%s/contentd-state", e->dir);
	argv_addl(&argv, "--address", socket, NULL);
	TRY(daemon_start(out, e, "contentd", &argv, err));
	argv_addl(&question, contentctl, "--address", socket, "info", NULL);
	return daemon_await(out, e, &question, err);
}

static int start_with_runc(struct engine *e, struct err *err)
{
	return containerd_start(e, &(struct containerd_spec){.snapshotter = "overlayfs", .runtime = "runc"}, err);
}

static int start_with_crun(struct engine *e, struct err *err)
{
	return containerd_start(e, &(struct containerd_spec){.snapshotter = "overlayfs", .runtime = "crun"}, err);
}

static int start_with_contentd(struct engine *e, struct err *err)
{
	return containerd_start(e, &(struct containerd_spec){.snapshotter = "contentd", .start_plugin = start_contentd},
	                        err);
}

const struct engine_kind ENGINE_CONTAINERD = {
    .name = "containerd",
    .title = "containerd + overlayfs",
    .form = "gzip",
    .of_suite = true,
    .probe = probe_runc,
    .start = start_with_runc,
    .stop = containerd_stop,
    .pull = containerd_pull,
    .run = containerd_run,
    .mount = containerd_mount,
};

const struct engine_kind ENGINE_CONTAINERD_CRUN = {
    .name = "containerd-crun",
    .title = "containerd + overlayfs, crun",
    .form = "gzip",
    .of_suite = true,
    .probe = probe_crun,
    .start = start_with_crun,
    .stop = containerd_stop,
    .pull = containerd_pull,
    .run = containerd_run,
    .mount = containerd_mount,
};

const struct engine_kind ENGINE_CONTAINERD_CONTENTD = {
    .name = "containerd-contentd",
    .title = "containerd + contentd as its snapshotter",
    .form = "estargz",
    .lazy = true,
    .of_suite = true,
    .probe = probe_contentd,
    .start = start_with_contentd,
    .stop = containerd_stop,
    .pull = containerd_pull_lazily,
    .run = containerd_run,
    .mount = containerd_mount,
};
