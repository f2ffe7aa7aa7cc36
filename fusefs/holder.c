/*
 * The holder: keeps what must outlive workers, and replaces them.
 *
 *   start ─► mount, INIT ─┐
 *   --resume (kept fds) ──┼─► worker ─► ready … dead, or silent ─► next worker …
 *   --adopt (link, pidfd)─┘      (its own worker goes on)
 *
 * It does almost nothing, so that it has no reason to die; when it does, its worker starts another one.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unix.h"
#include "fusefs/mount.h"
#include "fusefs/roles.h"
#include "fusefs/table.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define READ_AHEAD_KIB 1024 /* the largest request; the kernel's default is 128 */
#define BACKOFF_FIRST_NS (20 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)
#define QUICK_DEATH_NS (1 * NS_PER_S)   /* a worker that served for less may have died of what it is asked */
#define QUICK_DEATHS 3                  /* in a row that are answered at once */
#define QUICK_MAX_NS (500 * NS_PER_MS)  /* then: clients wait for it */
#define STOP_PATIENCE_NS (5 * NS_PER_S) /* for the worker's orderly end */
#define ROLE_PATIENCE_NS (2 * NS_PER_S)

struct holder {
	const struct ffs_options *opts;
	struct ffs_kept kept;
	const char *mount, *socket;
	int signals;

	int worker;        /* pidfd, or -1 */
	int link;          /* -1 after its end */
	bool ready;        /* this worker said so */
	bool gone;         /* the mount is */
	int64_t deadline;  /* of its next sign of life; or, without a worker, when to start one */
	unsigned failures; /* workers in a row that died before they were ready */
	int64_t ready_ns;  /* since when this worker serves */
	unsigned quick;    /* workers in a row that were ready and died soon */
};

/* ---- taking and giving back the state directory ---- */

static int lock_state(struct holder *h, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/contentfs.lock", h->opts->state);

	h->kept.lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (h->kept.lock < 0)
		return err_errno(err, errno, "open %s", path);
	if (flock(h->kept.lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(err, ERR_EXISTS, "another contentfs serves %s", h->opts->state);
	return err_errno(err, errno, "lock %s", path);
}

static int start_anew(struct holder *h, struct err *err)
{
	AUTO(buf) struct buf init = BUF_INIT;

	TRY(dir_make(h->opts->state, 0711, err));
	TRY(lock_state(h, err));
	TRY(ffs_role_lock(h->kept.lock, FFS_LOCK_HOLDER, ROLE_PATIENCE_NS, err));
	/* A stale socket file first goes away, so that nobody waits at it. */
	TRY(unix_listen(h->socket, SOCK_SEQPACKET, 0660, &h->kept.listen, err));
	TRY(ffs_mount_make(h->mount, &h->kept.fuse, &init, err));
	TRY(ffs_table_create(buf_str(&init), &h->kept.state, err));
	h->kept.creds = memfd_create("contentfs-credentials", MFD_CLOEXEC);
	if (h->kept.creds < 0)
		return err_errno(err, errno, "memory file for credentials");
	return 0;
}

static int take_over(struct holder *h, struct err *err)
{
	TRY(ffs_kept_take(&h->kept, err));
	TRY(ffs_role_lock(h->kept.lock, FFS_LOCK_HOLDER, ROLE_PATIENCE_NS, err));
	if (h->opts->role == FFS_ROLE_ADOPT) {
		h->link = FFS_FD_LINK;
		h->worker = FFS_FD_WORKER;
		fcntl(h->link, F_SETFD, FD_CLOEXEC);
		fcntl(h->worker, F_SETFD, FD_CLOEXEC);
		h->ready = true;
		h->deadline = clock_mono_ns() + h->opts->heartbeat_timeout_ns;
		log_info("holder %d took over from one that died", getpid());
	} else {
		log_info("holder %d resumes a mount", getpid());
	}
	h->gone = !ffs_mount_alive(h->kept.fuse);
	return 0;
}

static void give_back(struct holder *h)
{
	ffs_mount_end(h->mount);
	unlink(h->socket);
	/* Others may keep the open file: the lock itself must go. */
	flock(h->kept.lock, LOCK_UN);
}

/* ---- workers ---- */

static int start_worker(struct holder *h, struct err *err)
{
	AUTO_FD int theirs = -1;
	int pair[2];
	pid_t pid;

	h->ready = false;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, errno, "socketpair");
	h->link = pair[0];
	theirs = pair[1];
	TRY(ffs_role_start(h->opts, "--worker", &h->kept, &theirs, 1, &pid, err));
	h->worker = pidfd_open(pid, 0);
	if (h->worker < 0) {
		kill(pid, SIGKILL);
		return err_errno(err, errno, "pidfd_open");
	}
	h->deadline = clock_mono_ns() + h->opts->heartbeat_timeout_ns;
	log_debug("worker %d starts", pid);
	return 0;
}

static void drop_worker(struct holder *h)
{
	int64_t now = clock_mono_ns(), wait, longest = BACKOFF_MAX_NS;

	if (h->link >= 0)
		close(STEAL_FD(h->link));
	if (h->worker >= 0)
		close(STEAL_FD(h->worker));
	/* The mount stays, and its clients wait: a worker that cannot start must not be given up, only tried less often. The
	 * same for one that cannot live: the request that kills it comes again to each successor. */
	h->failures = h->ready ? 0 : h->failures + 1;
	h->quick = h->ready && now - h->ready_ns < QUICK_DEATH_NS ? h->quick + 1 : 0;
	wait = BACKOFF_FIRST_NS << (h->failures < 9 ? h->failures : 9);
	if (h->ready) {
		wait = h->quick <= QUICK_DEATHS ? 0 : BACKOFF_FIRST_NS << (h->quick < 9 ? h->quick : 9);
		longest = QUICK_MAX_NS;
	}
	h->deadline = now + (wait < longest ? wait : longest);
}

static void worker_died(struct holder *h)
{
	int status = 0;
	pid_t pid;

	/* One that we adopted is not our child: then there is nothing to reap. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (WIFSIGNALED(status))
			log_warn("worker %d was killed by signal %d", pid, WTERMSIG(status));
		else if (!h->gone)
			log_warn("worker %d exited with status %d", pid, WEXITSTATUS(status));
	drop_worker(h);
}

static void follow_log(const struct holder *h, const char *told)
{
	struct err err;

	log_set((enum log_level)told[1], told[2]);
	if (ffs_log_reopen(h->opts->state, &err) < 0)
		log_warn("%s", err.msg);
}

static void hear(struct holder *h)
{
	char told[4] = "", c;
	ssize_t n = recv(h->link, told, sizeof(told), MSG_DONTWAIT);
	struct err err;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close(STEAL_FD(h->link)); /* its death follows */
		return;
	}
	h->deadline = clock_mono_ns() + h->opts->heartbeat_timeout_ns;
	c = told[0];
	if (c == FFS_LINK_GONE)
		h->gone = true;
	if (c == FFS_LINK_LOG && n == 3)
		follow_log(h, told);
	if (c != FFS_LINK_READY)
		return;
	h->ready = true;
	h->ready_ns = clock_mono_ns();
	h->failures = 0;
	if (ffs_mount_set_readahead(h->mount, READ_AHEAD_KIB, &err) < 0)
		log_warn("read-ahead of the mount: %s", err.msg);
}

static void replace_silent(struct holder *h)
{
	log_error("the worker gave no sign of life for %lld s: replacing it",
	          (long long)(h->opts->heartbeat_timeout_ns / NS_PER_S));
	pidfd_send_signal(h->worker, SIGKILL, NULL, 0);
	h->deadline = clock_mono_ns() + h->opts->heartbeat_timeout_ns;
}

/* True when SIGTERM or SIGINT came. */
static bool take_signals(struct holder *h)
{
	struct signalfd_siginfo si;
	bool stop = false;

	while (read(h->signals, &si, sizeof(si)) == sizeof(si))
		stop |= si.ssi_signo != SIGCHLD;
	return stop;
}

static void stop_worker(struct holder *h)
{
	struct pollfd p = {.fd = h->worker, .events = POLLIN};
	char c = FFS_LINK_STOP;

	if (h->worker < 0)
		return;
	if (h->link < 0 || send(h->link, &c, 1, MSG_NOSIGNAL) != 1 || poll(&p, 1, STOP_PATIENCE_NS / NS_PER_MS) != 1) {
		pidfd_send_signal(h->worker, SIGKILL, NULL, 0);
		poll(&p, 1, STOP_PATIENCE_NS / NS_PER_MS);
	}
}

/* ---- the loop ---- */

static void step(struct holder *h)
{
	struct pollfd p[3] = {{.fd = h->signals, .events = POLLIN},
	                      {.fd = h->worker, .events = POLLIN},
	                      {.fd = h->link, .events = POLLIN}};
	int64_t wait = h->deadline - clock_mono_ns();
	struct err err;

	if (poll(p, 3, wait <= 0 ? 0 : (int)(wait / NS_PER_MS) + 1) < 0)
		return;
	if (p[2].revents)
		hear(h);
	if (p[1].revents)
		worker_died(h);
	if (h->gone || clock_mono_ns() < h->deadline)
		return;
	if (h->worker >= 0)
		replace_silent(h);
	else if (start_worker(h, &err) < 0) {
		log_error("start a worker: %s", err.msg);
		drop_worker(h);
	}
}

static int open_signals(struct holder *h, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	h->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return h->signals < 0 ? err_errno(err, errno, "signalfd") : 0;
}

/* For people and scripts that want to end us: <state>/contentfs.pid. Nothing of ours reads it. */
static void write_pid(const struct holder *h)
{
	AUTO_FREE char *text = xasprintf("%d\n", (int)getpid());
	AUTO_FD int state = open(h->opts->state, O_DIRECTORY | O_CLOEXEC);
	struct err err = ERR_INIT;

	if (state < 0 || file_write_atomic(state, "contentfs.pid", str_of(text), 0644, &err) < 0)
		log_warn("contentfs.pid: %s", state < 0 ? strerror(errno) : err.msg);
}

static void remove_pid(const struct holder *h)
{
	AUTO_FREE char *path = xasprintf("%s/contentfs.pid", h->opts->state);

	unlink(path);
}

int ffs_holder_main(const struct ffs_options *opts)
{
	struct holder h = {.opts = opts, .worker = -1, .link = -1, .signals = -1};
	AUTO_FREE char *mount = xasprintf("%s/lazy", opts->state);
	AUTO_FREE char *socket = xasprintf("%s/contentfs.sock", opts->state);
	struct err err = ERR_INIT;
	int r;

	h.mount = mount;
	h.socket = socket;
	r = open_signals(&h, &err);
	if (r == 0)
		r = opts->role == FFS_ROLE_HOLDER ? start_anew(&h, &err) : take_over(&h, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		return err.code == ERR_EXISTS ? FFS_EXIT_BUSY : FFS_EXIT_FAILED;
	}
	write_pid(&h);
	while (!h.gone && !take_signals(&h))
		step(&h);
	if (h.gone)
		log_warn("%s is not mounted any more: ending", h.mount);
	stop_worker(&h);
	remove_pid(&h);
	give_back(&h);
	return FFS_EXIT_OK;
}
