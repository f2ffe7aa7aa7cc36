#include "contentd/ops/observe.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "contentd/tasks/tasks.h"

#include <dirent.h>

#define CONTENTFS_NS (1 * NS_PER_S)

METRIC_COUNTER(calls_total, "contentd_api_calls_total", "Calls that have ended.", "service", "method", "code");
METRIC_HISTOGRAM(call_seconds, "contentd_api_call_seconds",
                 "How long calls took, streams from their begin to their end.", "service", "method");
METRIC_GAUGE(in_flight, "contentd_api_in_flight", "Calls that are being served.");

METRIC_GAUGE(build_info, "contentd_build_info", "1, with the version.", "version");
METRIC_GAUGE(resident, "contentd_resident_memory_bytes", "Resident memory of contentd.");
METRIC_GAUGE(open_fds, "contentd_open_fds", "Open file descriptors of contentd.");
METRIC_GAUGE(contentfs_up, "contentd_contentfs_up", "1 when contentfs has answered this scrape.");
METRIC_GAUGE(blobs, "contentd_store_blobs", "Blobs in the content store.");
METRIC_GAUGE(blob_bytes, "contentd_store_blob_bytes", "Bytes of all blobs in the content store.");
METRIC_GAUGE(ingests, "contentd_store_ingests", "Blobs that are being written, or were left half written.");
METRIC_GAUGE(tasks, "contentd_tasks", "Containers with a task, running or not.");

/* ---- calls ---- */

/* "containerd.services.images.v1.Images/Get" -> service and method. The names come from the tables of services, so there
 * are as many as these have. */
static const char *split_name(struct rpc_call *c, char service[static 128])
{
	const char *name = rpc_call_name(c), *slash = strrchr(name, '/');

	str_copy(str_make(name, (size_t)(slash - name)), service, 128);
	return slash + 1;
}

void cd_call_began(struct rpc_call *c)
{
	metric_add(&in_flight, 1);
}

void cd_call_ended(struct rpc_call *c, void *arg, int rc, const struct err *err, int64_t took_ns)
{
	const char *code = err_code_camel(rc < 0 ? err->code : ERR_OK);
	char service[128];
	const char *method = split_name(c, service);

	metric_add(&in_flight, -1);
	metric_add(&calls_total, 1, service, method, code);
	metric_observe_ns(&call_seconds, took_ns, service, method);
	log_debug("%s/%s of pid %d in %s: %s%s%s, %.3f ms", service, method, (int)rpc_peer(c)->pid,
	          rpc_metadata(c, "containerd-namespace") ?: "no namespace", code, rc < 0 ? ": " : "",
	          rc < 0 ? err->msg : "", (double)took_ns / NS_PER_MS);
}

/* ---- what there is ---- */

struct store_size {
	int64_t blobs, bytes, ingests;
};

static int add_blob(void *arg, const struct digest *d, int64_t bytes, struct err *err)
{
	struct store_size *s = arg;

	s->blobs++;
	s->bytes += bytes;
	return 0;
}

static int add_ingest(void *arg, const struct cd_ingest_status *status, struct err *err)
{
	struct store_size *s = arg;

	s->ingests++;
	return 0;
}

static int64_t count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int64_t n = -3; /* ".", ".." and the directory itself */

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void look(struct cd_daemon *d)
{
	struct store_size s = {0};

	cd_blob_each(d->content, add_blob, &s, NULL);
	cd_ingest_each(d->content, NULL, add_ingest, &s, NULL);
	metric_set(&blobs, s.blobs);
	metric_set(&blob_bytes, s.bytes);
	metric_set(&ingests, s.ingests);
	metric_set(&build_info, 1, CONTENTD_VERSION);
	metric_set(&resident, process_resident_bytes());
	metric_set(&open_fds, count_fds());
	metric_set(&tasks, d->tasks ? (int64_t)cd_tasks_count(d->tasks) : 0);
}

void cd_metrics_print(void *daemon, struct buf *out)
{
	AUTO(buf) struct buf theirs = BUF_INIT;
	struct cd_daemon *d = daemon;
	struct ffs_client *data = cd_data_now(d);
	bool up = data && ffs_client_metrics(data, clock_mono_ns() + CONTENTFS_NS, &theirs, NULL) >= 0;

	look(d);
	metric_set(&contentfs_up, up);
	metrics_print(out);
	if (up)
		buf_addstr(out, buf_str(&theirs));
}
