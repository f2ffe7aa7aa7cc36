#include "base/log.h"
#include "base/metrics.h"
#include "fusefs/verbs.h"
#include "fusefs/worker.h"
#include "rpc/pb.h"

#include <stdio.h>

METRIC_COUNTER(calls_total, "contentfs_calls_total", "Calls of contentd that have ended.", "verb", "code");
METRIC_HISTOGRAM(call_seconds, "contentfs_call_seconds", "How long calls of contentd took.", "verb");

/* What others count, looked at when it is asked for. */
METRIC_COUNTER(fetched_bytes, "contentfs_fetched_bytes_total", "Bytes of bodies received from registries.");
METRIC_COUNTER(corrupt_chunks, "contentfs_corrupt_chunks_total", "Chunks that did not match their digest.");
METRIC_COUNTER(published, "contentfs_published_total", "Files that became complete, were verified and published.");
METRIC_COUNTER(fuse_reads, "contentfs_fuse_reads_total", "Read requests of the kernel, of all workers of this mount.");
METRIC_COUNTER(fuse_lookups, "contentfs_fuse_lookups_total",
               "Lookup requests of the kernel, of all workers of this mount.");
METRIC_GAUGE(memory_bytes, "contentfs_memory_bytes", "Contents in flight and cached.");
METRIC_GAUGE(layers, "contentfs_layers", "Layers whose indexes are loaded.");
METRIC_GAUGE(generation, "contentfs_worker_generation", "Workers started on this mount so far.");
METRIC_GAUGE(resident, "contentfs_resident_memory_bytes", "Resident memory of the worker.");

static void look(struct ffs_service *s)
{
	AUTO_FREE struct digest *keys = NULL;
	struct ffs_data_counters n;
	struct reg_counters reg;
	uint64_t reads, lookups;
	size_t n_layers = 0;

	ffs_data_counters(s->w->data, &n);
	reg_client_counters(s->w->client, &reg);
	ffs_worker_fuse_counters(s->w, &reads, &lookups);
	ffs_data_layers(s->w->data, &keys, &n_layers);
	metric_set(&fetched_bytes, (int64_t)reg.bytes_in);
	metric_set(&corrupt_chunks, (int64_t)n.corrupt_chunks);
	metric_set(&published, (int64_t)n.published);
	metric_set(&fuse_reads, (int64_t)reads);
	metric_set(&fuse_lookups, (int64_t)lookups);
	metric_set(&memory_bytes, (int64_t)n.memory_bytes);
	metric_set(&layers, (int64_t)n_layers);
	metric_set(&generation, (int64_t)s->w->generation);
	metric_set(&resident, process_resident_bytes());
}

int verb_metrics(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(MetricsResponse) rsp = CONTENTD__CONTENTFS__V1__METRICS_RESPONSE__INIT;
	AUTO(buf) struct buf text = BUF_INIT;

	look(svc);
	metrics_print(&text);
	rsp.text = (char *)buf_cstr(&text);
	return rpc_reply(c, &rsp.base, err);
}

int verb_reload(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(ReloadRequest) *req = request;
	enum log_level level = log_level_get();
	struct ffs_service *s = svc;

	if (*req->log_level && !log_level_parse(req->log_level, &level))
		return err_set(err, ERR_INVALID, "no log level \"%.40s\"", req->log_level);
	log_set(level, *req->log_format ? !strcmp(req->log_format, "json") : log_is_json());
	load_certs(s->w->client, s->w->opts->certs_dir);
	return ffs_worker_reopen_log(s->w, err);
}

void verb_done(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns)
{
	const char *verb = strrchr(rpc_call_name(c), '/') + 1;
	const char *code = err_code_camel(rc < 0 ? err->code : ERR_OK);
	struct ffs_service *s = arg;

	/* Tables of contents, and layers that passed through. */
	if (!strcmp(verb, "Open") || !strcmp(verb, "Unpack"))
		atomic_store(&s->w->trim_due, true);
	metric_add(&calls_total, 1, verb, code);
	metric_observe_ns(&call_seconds, took_ns, verb);
	log_debug("%s: %s%s%s, %.3f ms", verb, code, rc < 0 ? ": " : "", rc < 0 ? err->msg : "",
	          (double)took_ns / NS_PER_MS);
}
