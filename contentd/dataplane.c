#include "contentd/dataplane.h"

#include "base/clock.h"
#include "base/unix.h"
#include "contentd/collect/store.h"

#include <pthread.h>

#define RETRY_NS (2 * NS_PER_S)

struct cd_watch {
	struct cd_daemon *d;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool lost, stopping; /* lock */
};

/* ---- watching ---- */

static void on_lost(void *arg)
{
	struct cd_watch *w = arg;

	pthread_mutex_lock(&w->lock);
	w->lost = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

/* True when there is something to look after, false at the end. */
static bool wait_for_loss(struct cd_watch *w)
{
	bool stopping;

	pthread_mutex_lock(&w->lock);
	while (!w->lost && !w->stopping)
		pthread_cond_wait(&w->cond, &w->lock);
	w->lost = false;
	stopping = w->stopping;
	pthread_mutex_unlock(&w->lock);
	return !stopping;
}

static void pause_before_retry(struct cd_watch *w)
{
	int64_t at = clock_mono_ns() + RETRY_NS;
	struct timespec until = {at / NS_PER_S, at % NS_PER_S};

	pthread_mutex_lock(&w->lock);
	w->lost = true;
	while (!w->stopping && pthread_cond_clockwait(&w->cond, &w->lock, CLOCK_MONOTONIC, &until) == 0)
		;
	pthread_mutex_unlock(&w->lock);
}

/* Any call connects anew, and starts what is not there. */
static void *watch(void *arg)
{
	struct cd_watch *w = arg;

	while (wait_for_loss(w)) {
		AUTO(pb) Contentd__Contentfs__V1__StatusResponse *status = NULL;
		struct err err = ERR_INIT;

		if (ffs_client_status(w->d->data, NULL, 0, &status, &err) >= 0) {
			log_info("contentfs is back: holder %u, worker %u", status->holder_pid, status->worker_pid);
			/* It has the options of its start. */
			if (cd_data_reload(w->d, &err) < 0)
				log_warn("contentfs: %s", err.msg);
			continue;
		}
		log_error("contentfs is gone, trying again: %s", err.msg);
		pause_before_retry(w);
	}
	return NULL;
}

static struct cd_watch *watch_new(struct cd_daemon *d)
{
	struct cd_watch *w = xcalloc(1, sizeof(*w));

	w->d = d;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
	return w;
}

static int watch_start(struct cd_watch *w, struct err *err)
{
	int r = pthread_create(&w->thread, NULL, watch, w);

	w->started = r == 0;
	return r ? err_errno(err, r, "pthread_create") : 0;
}

static void watch_stop(struct cd_watch *w)
{
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
	if (w->started)
		pthread_join(w->thread, NULL);
	w->started = false;
}

static void watch_free(struct cd_watch *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
	free(w);
}

/* ---- opening ---- */

static enum snap_level level_of(const char *text)
{
	static const struct {
		const char *text;
		enum snap_level level;
	} levels[] = {{"overlay", SNAP_LEVEL_OVERLAY}, {"nested", SNAP_LEVEL_NESTED}, {"tree", SNAP_LEVEL_TREE}};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++)
		if (!strcmp(levels[i].text, text))
			return levels[i].level;
	return SNAP_LEVEL_AUTO;
}

/* contentfs lies beside contentd. */
static char *contentfs_path(void)
{
	AUTO_FREE char *self = NULL;

	if (program_path(&self, NULL) < 0)
		return xstrdup("contentfs");
	*strrchr(self, '/') = '\0';
	return xasprintf("%s/contentfs", self);
}

static char *list_of(const struct cd_names *names)
{
	AUTO(buf) struct buf list = BUF_INIT;

	for (size_t i = 0; i < names->n; i++)
		buf_addf(&list, "%s%s", i ? "," : "", names->p[i]);
	return xstrdup(buf_cstr(&list));
}

static int open_contentfs(struct cd_daemon *d, struct err *err)
{
	AUTO_FREE char *program = contentfs_path();
	AUTO_FREE char *background = xasprintf("--background=%s", d->config.fetch_background);
	AUTO_FREE char *quiet = xasprintf("--background-quiet-ms=%lld", (long long)d->config.fetch_background_quiet_ms);
	AUTO_FREE char *window = xasprintf("--window=%s", d->config.fetch_window);
	AUTO_FREE char *prove = xasprintf("--prove=%s", d->config.fetch_prove ? "on" : "off");
	AUTO_FREE char *hosts = list_of(&d->config.fetch_gzip_index_hosts);
	AUTO_FREE char *trusted = xasprintf("--gzip-index-hosts=%s", hosts);
	AUTO_FREE char *timeout = xasprintf("--read-timeout-ms=%lld", (long long)d->config.fetch_read_timeout_ms);
	AUTO_FREE char *answer = xasprintf("--answer-timeout-ms=%lld", (long long)d->config.fetch_answer_timeout_ms);
	AUTO_FREE char *certs = xasprintf("--certs-dir=%s", d->config.fetch_certs_dir);
	AUTO_FREE char *level = xasprintf("--log-level=%s", log_level_name(log_level_get()));
	AUTO_FREE char *format = xasprintf("--log-format=%s", log_is_json() ? "json" : "text");
	const char *const args[] = {background, quiet, window, prove,  trusted, timeout,
	                            answer,     certs, level,  format, NULL};
	struct ffs_client_opts opts = {.root = d->config.root,
	                               .state = d->config.state,
	                               .program = program,
	                               .extra = args,
	                               .answer_ns = d->config.fetch_contentfs_timeout_ms * NS_PER_MS,
	                               .lost = on_lost,
	                               .arg = d->watch,
	                               .watch = cd_file_store_watch(d->files)};

	return ffs_client_new(&opts, &d->data, err);
}

int cd_data_open(struct cd_daemon *d, struct err *err)
{
	struct snap_opts opts = {.root = d->config.root,
	                         .state = d->config.state,
	                         .kv = &d->snap_kv,
	                         .level = level_of(d->config.snapshotter_level)};

	d->watch = watch_new(d);
	TRY_WRAP(open_contentfs(d, err), err, "contentfs");
	TRY(watch_start(d->watch, err));
	TRY_WRAP(snap_store_new(&opts, &d->snaps, err), err, "snapshotter");
	log_info("images are mounted at level %d: %s", (int)snap_store_level(d->snaps),
	         snap_store_level_reason(d->snaps));
	return 0;
}

int cd_data_reload(struct cd_daemon *d, struct err *err)
{
	struct ffs_client *data = cd_data_now(d);

	return data ? ffs_client_reload(data, log_level_name(log_level_get()), log_is_json() ? "json" : "text", err)
	            : 0;
}

void cd_data_close(struct cd_daemon *d)
{
	if (d->watch)
		watch_stop(d->watch);
	snap_store_free(STEAL(d->snaps));
	ffs_client_free(STEAL(d->data)); /* may still say that it is lost */
	watch_free(STEAL(d->watch));
}
