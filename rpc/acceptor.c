#include "rpc/acceptor.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <sys/socket.h>

#define PAUSE_NS (100 * NS_PER_MS) /* when descriptors have run out */
#define WARN_NS (1 * NS_PER_S)     /* between two messages about refused connections */
#define ACCEPTS_PER_EVENT 16       /* then others have their turn */

struct acceptor_socket {
	struct acceptor *a;
	int fd;
	struct loop_io *io; /* NULL while paused */
};

static bool is_exhausted(int sys)
{
	return sys == EMFILE || sys == ENFILE || sys == ENOMEM || sys == ENOBUFS;
}

static void warn_refused(struct acceptor *a, const struct err *why)
{
	int64_t now = clock_mono_ns();

	if (a->warned_ns && now - a->warned_ns < WARN_NS) {
		a->unwarned++;
		return;
	}
	if (a->unwarned)
		log_warn("%s: %u more connections were refused", a->name, a->unwarned);
	log_warn("%s: connection refused: %s", a->name, why->msg);
	a->warned_ns = now;
	a->unwarned = 0;
}

static void on_socket(void *arg, uint32_t events)
{
	struct acceptor_socket *s = arg;
	struct acceptor *a = s->a;

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct err err = ERR_INIT;

		if (fd < 0 && is_exhausted(errno)) {
			/* The socket stays readable: wait instead of spinning. */
			log_warn("%s: cannot accept connections: %s", a->name, strerror(errno));
			loop_io_free(STEAL(s->io));
			loop_timer_set(a->pause, clock_mono_ns() + PAUSE_NS);
			return;
		}
		if (fd < 0)
			return;
		if (a->accept(a->arg, fd, &err) < 0)
			warn_refused(a, &err);
	}
}

static int watch(struct acceptor *a, struct err *err)
{
	vec_each(&a->sockets, s)
		if (!(*s)->io)
			TRY(loop_io_new(a->loop, (*s)->fd, EPOLLIN, on_socket, *s, &(*s)->io, err));
	return 0;
}

static void on_pause_over(void *arg)
{
	struct acceptor *a = arg;

	if (watch(a, NULL) < 0)
		loop_timer_set(a->pause, clock_mono_ns() + PAUSE_NS);
}

void acceptor_add(struct acceptor *a, TAKE(int) fd)
{
	struct acceptor_socket *s = xcalloc(1, sizeof(*s));

	s->a = a;
	s->fd = fd;
	vec_push(&a->sockets, s);
}

int acceptor_start(struct acceptor *a, struct loop *loop, struct err *err)
{
	a->loop = loop;
	TRY(loop_timer_new(loop, on_pause_over, a, &a->pause, err));
	return watch(a, err);
}

void acceptor_close(struct acceptor *a)
{
	vec_each(&a->sockets, s) {
		if ((*s)->io)
			loop_io_free((*s)->io);
		close((*s)->fd);
		free(*s);
	}
	vec_fini(&a->sockets);
	if (a->pause)
		loop_timer_free(STEAL(a->pause));
}
