/* The registry that images are pulled from. */
#include "bench/coldbench/images/registry.h"

#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/verb.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define START_NS (20 * NS_PER_S)
#define PUSH_NS (300 * NS_PER_S) /* a gigabyte on a busy machine */
#define STOP_MS 5000
#define PORT_TRIES 5
#define MARK "X-Coldbench" /* the header of its answers that says whose it is */
#define ANSWER_BYTES_MAX (16u << 10)

struct registry {
	char *log, *push_log, *config;
	char host[sizeof("127.0.0.1:65535")];
	int data_fd; /* a tmpfs that is mounted nowhere: gone when nobody has it open */
	pid_t pid;   /* 0: does not run */
	int pidfd, cancel_fd;
};

/* A port that nobody has just now: the registry cannot choose one and say it without telling of each request, too. */
static int free_port(unsigned *out, struct err *err)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	AUTO_FD int fd = -1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, n) || getsockname(fd, (struct sockaddr *)&at, &n))
		return err_errno(err, errno, "find a free port");
	*out = ntohs(at.sin_port);
	return 0;
}

/* Whether it is ours that answers: somebody else may have taken the port meanwhile. */
static bool answers(unsigned port)
{
	static const struct str question = STR("GET /v2/ HTTP/1.0\r\n\r\n");
	struct sockaddr_in at = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	AUTO_FREE char *mark = xasprintf("\r\n" MARK ": %d\r\n", (int)getpid());
	AUTO(buf) struct buf answer = BUF_INIT;
	AUTO_FD int fd = -1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 1}, sizeof(struct timeval)))
		return false;
	return connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && fd_write_all(fd, question, NULL) == 0 &&
	       fd_read_all(fd, ANSWER_BYTES_MAX, &answer, NULL) == 0 && strstr(buf_cstr(&answer), mark);
}

static int write_config(const struct registry *r, unsigned port, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	buf_addf(&text,
	         "version: 0.1\n"
	         "log: {level: error, accesslog: {disabled: true}}\n"
	         "storage:\n"
	         "  filesystem: {rootdirectory: /proc/self/fd/3}\n"
	         "  cache: {blobdescriptor: inmemory}\n"
	         "http: {addr: \"127.0.0.1:%u\", secret: coldbench, headers: {" MARK ": [\"%d\"]}}\n",
	         port, (int)getpid());
	return file_write_atomic(AT_FDCWD, r->config, buf_str(&text), 0600, err);
}

static int make_data(int *out, struct err *err)
{
	AUTO_FD int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd = -1;

	if (fs >= 0 && !fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) &&
	    !fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (fd < 0)
		return err_errno(err, errno, "make a tmpfs");
	*out = fd;
	return 0;
}

/* It is told of our end by the kernel; the shell sees when that was before the kernel had been asked to. In a group of its
 * own: Ctrl-C of a terminal is ours. It would look for a collector of traces at each request. */
static int launch(struct registry *r, struct err *err)
{
	AUTO_FREE char *self = xasprintf("%d", (int)getpid());
	const char *const argv[] = {"setpriv",
	                            "--pdeathsig=KILL",
	                            "sh",
	                            "-c",
	                            "[ $PPID = $0 ] && OTEL_TRACES_EXPORTER=none exec docker-registry serve \"$1\"",
	                            self,
	                            r->config,
	                            NULL};
	AUTO_FD int log = -1;

	log = open(r->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log < 0)
		return err_errno(err, errno, "open %s", r->log);
	TRY(spawn_start(
	    &(struct spawn){.argv = argv, .stdio = {-1, log, log}, .keep = &r->data_fd, .n_keep = 1, .new_group = true},
	    &r->pid, err));
	r->pidfd = pidfd_open(r->pid, 0);
	return r->pidfd < 0 ? err_errno(err, errno, "watch docker-registry") : 0;
}

static bool ended_within(const struct registry *r, int ms)
{
	return poll(&(struct pollfd){.fd = r->pidfd, .events = POLLIN}, 1, ms) > 0;
}

static void end(struct registry *r)
{
	int status;

	if (!r->pid)
		return;
	kill(r->pid, SIGTERM);
	if (r->pidfd < 0 || !ended_within(r, STOP_MS))
		kill(r->pid, SIGKILL);
	spawn_wait(r->pid, &status, NULL);
	if (r->pidfd >= 0)
		close(STEAL_FD(r->pidfd));
	r->pid = 0;
}

/* 1 when it answers, 0 when it ended. */
static int try_port(struct registry *r, struct err *err)
{
	int64_t deadline_ns = clock_mono_ns() + START_NS;
	unsigned port;

	TRY(free_port(&port, err));
	TRY(write_config(r, port, err));
	TRY(launch(r, err));
	snprintf(r->host, sizeof(r->host), "127.0.0.1:%u", port);
	while (!answers(port)) {
		if (ended_within(r, 10))
			return 0;
		if (verb_is_cancelled(r->cancel_fd))
			return err_set(err, ERR_CANCELLED, "docker-registry was stopped");
		if (clock_mono_ns() > deadline_ns)
			return err_set(err, ERR_DEADLINE, "docker-registry does not answer: %s", r->log);
	}
	return 1;
}

static int start(struct registry *r, struct err *err)
{
	AUTO_FREE char *words = NULL;

	TRY(make_data(&r->data_fd, err));
	for (int i = 0; i < PORT_TRIES; i++) {
		int up = try_port(r, err);

		TRY(up);
		if (up)
			return 0;
		end(r);
	}
	words = last_words(r->log);
	return err_set(err, ERR_UNAVAILABLE, "docker-registry does not start (cmake/setup.sh installs it): %s", words);
}

int registry_start(const char *dir, int cancel_fd, struct registry **out, struct err *err)
{
	struct registry *r = xcalloc(1, sizeof(*r));
	int result;

	r->pidfd = r->data_fd = -1;
	r->cancel_fd = cancel_fd;
	r->log = xasprintf("%s/registry.log", dir);
	r->push_log = xasprintf("%s/push.log", dir);
	r->config = xasprintf("%s/registry.yml", dir);
	result = start(r, err);
	if (result < 0)
		registry_stop(STEAL(r));
	*out = r;
	return result;
}

void registry_stop(struct registry *r)
{
	if (!r)
		return;
	end(r);
	if (r->data_fd >= 0)
		close(r->data_fd);
	free(r->log);
	free(r->push_log);
	free(r->config);
	free(r);
}

const char *registry_host(const struct registry *r)
{
	return r->host;
}

int registry_push(struct registry *r, const struct image *image, const char *name, struct err *err)
{
	AUTO(argv) struct argv copy = ARGV_INIT;

	/* Bytes and digests as they are: how they are packed is what is compared. */
	argv_addl(&copy, "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
	          "--preserve-digests", NULL);
	argv_addf(&copy, "oci:%s:latest", image->layout);
	argv_addf(&copy, "docker://%s/%s", r->host, name);
	return command_run(&copy, r->push_log, clock_mono_ns() + PUSH_NS, r->cancel_fd, err);
}
