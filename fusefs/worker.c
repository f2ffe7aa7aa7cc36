#include "fusefs/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "fusefs/mount.h"
#include "fusefs/roles.h"
#include "fusefs/secrets.h"
#include "fusefs/service.h"
#include "fusefs/session.h"
#include "registry/client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BEAT_NS (1 * NS_PER_S)
#define STUCK_NS (60 * NS_PER_S) /* in one request of the kernel, none of which waits for the network */
#define ADOPT_PAUSE_NS (1 * NS_PER_S)
#define ROLE_PATIENCE_NS (30 * NS_PER_S) /* for a killed predecessor to be gone */

/* The thread that keeps in touch with the holder, and replaces it. */
struct touch {
	struct ffs_worker *w;
	struct ffs_kept kept;
	/* Set by the main thread as the worker comes up. */
	_Atomic(struct ffs_data *) data;
	_Atomic(struct ffs_session *) session;
};

static _Atomic pid_t holder_pid;

pid_t ffs_worker_holder_pid(const struct ffs_worker *w)
{
	return atomic_load(&holder_pid);
}

void ffs_worker_fuse_counters(const struct ffs_worker *w, uint64_t *reads, uint64_t *lookups)
{
	*reads = ffs_table_counter(w->table, FFS_COUNT_READS);
	*lookups = ffs_table_counter(w->table, FFS_COUNT_LOOKUPS);
}

/* ---- privileges ---- */

/* A worker reads hostile bytes. What it keeps lets it use files under the root whoever owns them; the rest goes for this
 * process, not for a holder that it may have to start (the bounding set stays). */
static int drop_privileges(struct err *err)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	uint32_t keep = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER;
	struct __user_cap_data_struct d[2] = {{.effective = keep, .permitted = keep}};

	if (syscall(SYS_capset, &h, d) < 0 && errno != EPERM)
		return err_errno(err, errno, "drop capabilities");
	/* Registry credentials are in this memory. */
	prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* ---- keeping in touch with the holder ---- */

static void say(struct ffs_worker *w, char c)
{
	send(w->link_fd, &c, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int ffs_worker_reopen_log(struct ffs_worker *w, struct err *err)
{
	const char told[] = {FFS_LINK_LOG, (char)log_level_get(), log_is_json()};

	send(w->link_fd, told, sizeof(told), MSG_NOSIGNAL | MSG_DONTWAIT);
	return ffs_log_reopen(w->opts->state, err);
}

/* Starts a holder over this worker, which goes on meanwhile. */
static int start_holder(struct touch *t, struct err *err)
{
	AUTO_FD int self = -1, theirs = -1;
	int pair[2], more[2];
	pid_t pid;

	self = pidfd_open(getpid(), 0);
	if (self < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, errno, "link to a new holder");
	/* The number of the link stays, as others were told it. */
	if (dup3(pair[0], t->w->link_fd, O_CLOEXEC) < 0)
		return err_errno(err, errno, "dup");
	close(pair[0]);
	theirs = pair[1];
	more[0] = theirs;
	more[1] = self;
	TRY(ffs_role_start(t->w->opts, "--adopt", &t->kept, more, 2, &pid, err));
	atomic_store(&holder_pid, pid);
	return 0;
}

/* The holder's end of the link is closed. */
static void replace_holder(struct touch *t)
{
	static int64_t last;
	int64_t now = clock_mono_ns();
	struct err err;

	/* At once; but one that cannot live is not started in a loop. */
	if (last && now - last < ADOPT_PAUSE_NS)
		usleep((useconds_t)((ADOPT_PAUSE_NS - (now - last)) / NS_PER_US));
	last = clock_mono_ns();
	log_warn("holder %d is dead: starting another one", atomic_load(&holder_pid));
	waitpid(-1, NULL, WNOHANG); /* it was our child, if we had started it */
	if (start_holder(t, &err) < 0)
		log_error("start a holder: %s", err.msg);
	else if (atomic_load(&t->session))
		say(t->w, FFS_LINK_READY);
}

static void beat(struct touch *t)
{
	struct ffs_data *data = atomic_load(&t->data);
	struct ffs_session *session = atomic_load(&t->session);

	if (data && ffs_data_beat(data))
		t->w->trim_due = true;
	if (atomic_exchange(&t->w->trim_due, false))
		malloc_trim(0);
	/* A silent worker is replaced. */
	if (!session || ffs_session_stuck_ns(session) < STUCK_NS)
		say(t->w, FFS_LINK_BEAT);
}

static void *touch_main(void *arg)
{
	struct touch *t = arg;
	struct ffs_worker *w = t->w;

	for (;;) {
		struct pollfd p = {.fd = w->link_fd, .events = POLLIN};
		ssize_t n;
		char c;

		if (poll(&p, 1, BEAT_NS / NS_PER_MS) <= 0) {
			beat(t);
			continue;
		}
		n = recv(w->link_fd, &c, 1, MSG_DONTWAIT);
		if (n == 1 && c == FFS_LINK_STOP)
			_exit(FFS_EXIT_OK); /* nothing here needs an end that it does not survive without */
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			replace_holder(t);
	}
	return NULL;
}

/* ---- start ---- */

static int attach(struct ffs_worker *w, struct ffs_kept *kept, struct err *err)
{
	TRY(ffs_kept_take(kept, err));
	w->fuse_fd = kept->fuse;
	w->state_fd = kept->state;
	w->creds_fd = kept->creds;
	w->listen_fd = kept->listen;
	w->lock_fd = kept->lock;
	w->link_fd = FFS_FD_LINK;
	if (fcntl(w->link_fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_errno(err, errno, "link to the holder");
	snprintf(w->mount, sizeof(w->mount), "%s/lazy", w->opts->state);
	atomic_store(&holder_pid, getppid());
	return ffs_role_lock(w->lock_fd, FFS_LOCK_WORKER, ROLE_PATIENCE_NS, err);
}

static int bring_up(struct ffs_worker *w, struct touch *t, struct ffs_service **service, struct err *err)
{
	const struct reg_client_opts opts = {.answer_ms = w->opts->answer_timeout_ms};
	struct err why = ERR_INIT;
	struct ffs_blobs blobs;

	TRY(ffs_table_open(w->state_fd, &w->table, err));
	w->generation = ffs_table_next_generation(w->table);
	TRY(ffs_store_open(w->opts->root, &w->store, err));
	TRY(reg_client_new(&opts, &w->client, err));
	if (ffs_secrets_open(w->creds_fd, w->client, &w->secrets, &why) < 0)
		log_warn("%s: images have to be pulled again with them", why.msg);
	w->registries = (struct ffs_registries){w->client, w->secrets};
	blobs = ffs_blobs_registry(&w->registries);
	TRY(ffs_data_new(w->store, &blobs, &w->opts->data, &w->data, err));
	atomic_store(&t->data, w->data);
	/* Loads the layers: every name that the kernel may ask for must be known before its first request. */
	TRY(ffs_service_new(w, service, err));
	TRY(ffs_session_new(w->fuse_fd, w->table, w->data, w->opts->root, w->generation == 1, &w->session, err));
	atomic_store(&t->session, w->session);
	return 0;
}

static int run(struct ffs_worker *w, struct err *err)
{
	struct touch *t = xcalloc(1, sizeof(*t));
	struct ffs_service *service = NULL;
	pthread_t thread;

	t->w = w;
	TRY(attach(w, &t->kept, err));
	TRY(drop_privileges(err));
	raise_limits();
	if (pthread_create(&thread, NULL, touch_main, t) != 0)
		return err_set(err, ERR_EXHAUSTED, "no thread could be started");
	TRY(bring_up(w, t, &service, err));
	TRY(ffs_service_start(service, err));
	say(w, FFS_LINK_READY);
	log_info("worker %d, number %llu of this mount, serves %s", getpid(), (unsigned long long)w->generation,
	         w->mount);
	return ffs_session_run(w->session, w->opts->fuse_threads, err);
}

int ffs_worker_main(const struct ffs_options *opts)
{
	struct ffs_worker *w = xcalloc(1, sizeof(*w));
	struct err err = ERR_INIT;

	w->opts = opts;
	signal(SIGPIPE, SIG_IGN);
	if (run(w, &err) < 0) {
		log_error("worker: %s", err.msg);
		_exit(FFS_EXIT_FAILED);
	}
	say(w, FFS_LINK_GONE);
	_exit(FFS_EXIT_OK);
}
