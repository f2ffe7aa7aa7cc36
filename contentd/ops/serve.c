#include "contentd/ops/serve.h"

#include "base/clock.h"
#include "contentd/daemon.h"
#include "contentd/dataplane.h"
#include "contentd/ops/access.h"
#include "contentd/ops/metrics_server.h"
#include "contentd/ops/notify.h"
#include "contentd/ops/observe.h"
#include "rpc/client.h"
#include "rpc/proto/version.pb-c.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

struct serve {
	struct cd_config config; /* in force */
	const struct cd_config_source *source;
	struct cd_daemon *daemon;
	struct cd_metrics_server *metrics;
};

int cd_log_apply(const struct cd_config *config, struct err *err)
{
	enum log_level level = LOG_INFO;

	log_level_parse(config->log_level, &level);
	log_set(level, !strcmp(config->log_format, "json"));
	return *config->log_file ? log_reopen(config->log_file, err) : 0;
}

/* Each container costs a few descriptors, and shims inherit the soft limit: like other daemons, take what we may. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
	mallopt(M_ARENA_MAX, 2); /* rpc/server.h */
}

/* ---- reload ---- */

static int reload(struct serve *s, struct err *err)
{
	AUTO(cd_config) struct cd_config fresh = {0};
	AUTO(buf) struct buf ignored = BUF_INIT;

	TRY(s->source->load(&fresh, s->source->arg, err));
	cd_config_reload(&s->config, &fresh, &ignored);
	if (ignored.n)
		log_warn("a restart is needed for what has changed of %s", buf_cstr(&ignored));
	TRY(cd_log_apply(&s->config, err));
	return cd_data_reload(s->daemon, err);
}

static void on_reload(struct serve *s)
{
	struct err err = ERR_INIT;

	cd_notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_mono_ns() / 1000));
	if (reload(s, &err) < 0)
		log_error("reload: %s", err.msg);
	else
		log_info("reloaded%s%s", s->config.file ? " " : "", s->config.file ?: "");
	cd_notify("READY=1");
}

/* ---- watchdog ---- */

/* A call through the socket, the I/O thread and back. */
static int check_alive(const struct serve *s, int64_t patience_ns, struct err *err)
{
	const struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + patience_ns};
	AUTO(rpc_client) struct rpc_client *c = NULL;
	Pb__Empty request = PB__EMPTY__INIT;

	TRY(rpc_client_connect(s->config.address, &c, err));
	return rpc_call(c, &version__version__descriptor, "Version", &opts, &request.base, NULL, err);
}

static void on_tick(const struct serve *s, int64_t interval_ns)
{
	struct err err = ERR_INIT;

	if (check_alive(s, interval_ns / 2, &err) >= 0)
		cd_notify("WATCHDOG=1");
	else
		log_error("the daemon does not answer: %s", err.msg);
}

/* ---- life ---- */

static void wait_for_end(struct serve *s, const sigset_t *signals)
{
	int64_t tick_ns = cd_notify_watchdog_ns();
	const struct timespec tick = {tick_ns / NS_PER_S, tick_ns % NS_PER_S};

	for (;;) {
		int sig = tick_ns ? sigtimedwait(signals, NULL, &tick) : sigwaitinfo(signals, NULL);

		if (sig == SIGHUP) {
			on_reload(s);
		} else if (sig > 0) {
			log_info("ending on signal %d", sig);
			return;
		}
		if (tick_ns && (sig > 0 || errno == EAGAIN))
			on_tick(s, tick_ns);
	}
}

static int start_metrics(struct serve *s, struct err *err)
{
	const char *address = s->config.metrics_address;

	if (!*address)
		return 0;
	TRY(cd_metrics_server_start(address, cd_metrics_print, s->daemon, &s->metrics, err));
	return *address == '/' ? cd_access_own(&s->config, address, err) : 0;
}

static int serve(struct serve *s, const sigset_t *signals, struct err *err)
{
	struct cd_config theirs = {0};

	cd_config_copy(&theirs, &s->config);
	TRY(cd_daemon_new(&theirs, &s->daemon, err));
	TRY(cd_daemon_start(s->daemon, err));
	TRY(start_metrics(s, err));
	log_info("contentd %s serves %s", CONTENTD_VERSION, s->config.address);
	TRY(cd_wait_meta(s->daemon, NULL, err));
	cd_notify("READY=1\nSTATUS=serves %s", s->config.address);
	wait_for_end(s, signals);
	cd_notify("STOPPING=1");
	return 0;
}

int cd_serve(const struct cd_config *config, const struct cd_config_source *source, struct err *err)
{
	struct serve s = {.source = source};
	sigset_t signals;
	int r;

	cd_notify_init();
	raise_limits();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in all threads: they are waited for */
	signal(SIGPIPE, SIG_IGN);
	cd_config_copy(&s.config, config);
	r = serve(&s, &signals, err);
	cd_metrics_server_free(s.metrics);
	cd_daemon_free(s.daemon);
	cd_config_fini(&s.config);
	return r;
}
