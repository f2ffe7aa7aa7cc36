#include "rpc/io.h"

#include "base/buf.h"
#include "base/log.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>

struct rpc_io {
	struct loop *loop;
	pthread_t thread;
};

static void *io_main(void *arg)
{
	struct rpc_io *io = arg;
	struct err err = ERR_INIT;

	pthread_setname_np(pthread_self(), "rpc-io");
	if (loop_run(io->loop, &err) < 0)
		log_error("rpc: event loop: %s", err.msg);
	return NULL;
}

int rpc_io_new(struct rpc_io **out, struct err *err)
{
	struct rpc_io *io = xcalloc(1, sizeof(*io));
	sigset_t all, old;
	int r;

	r = loop_new(&io->loop, err);
	if (r < 0) {
		free(io);
		return r;
	}
	/* Signals are the main thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&io->thread, NULL, io_main, io);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		loop_free(io->loop);
		free(io);
		return err_errno(err, r, "start an I/O thread");
	}
	*out = io;
	return 0;
}

void rpc_io_free(struct rpc_io *io)
{
	if (!io)
		return;
	loop_quit(io->loop);
	pthread_join(io->thread, NULL);
	loop_free(io->loop);
	free(io);
}

struct loop *rpc_io_loop(struct rpc_io *io)
{
	return io->loop;
}

struct run {
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_there(void *arg)
{
	struct run *r = arg;

	r->fn(r->arg);
	pthread_mutex_lock(&r->lock);
	r->done = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

void rpc_io_run(struct rpc_io *io, void (*fn)(void *arg), void *arg)
{
	struct run r = {fn, arg, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

	assert(!pthread_equal(pthread_self(), io->thread));
	loop_post(io->loop, run_there, &r);
	pthread_mutex_lock(&r.lock);
	while (!r.done)
		pthread_cond_wait(&r.cond, &r.lock);
	pthread_mutex_unlock(&r.lock);
	pthread_cond_destroy(&r.cond);
	pthread_mutex_destroy(&r.lock);
}
