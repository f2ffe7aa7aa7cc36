#include "estargz/convert/intake.h"

#include "estargz/inflate/inflate.h"

#include <pthread.h>
#include <signal.h>

#define READ_BYTES (256u << 10)
#define BLOCK_BYTES (1u << 20)
#define BLOCKS 4

struct block {
	struct buf plain;
	enum esgz_compression kind;
	uint64_t bytes_in; /* of the source, up to its end */
};

struct intake {
	const struct esgz_convert_io *io;
	pthread_t thread;
	bool started;
	/* the thread's */
	struct esgz_stream *stream;
	struct hasher *hasher;
	uint64_t bytes_in;
	struct digest digest; /* when it has ended, the owner's */
	/* between the two: block i is blocks[i % BLOCKS] */
	struct block blocks[BLOCKS];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t filled, taken; /* lock */
	bool stop, ended;       /* lock: the owner wants no more; the thread gives no more */
	int result;             /* when ended */
	struct err err;
	/* the owner's */
	bool holding; /* a block is with the caller */
	uint64_t given_in;
};

/* ---- the thread ---- */

/* A block to fill. */
static int wait_block(struct intake *in, struct err *err)
{
	bool stop;

	pthread_mutex_lock(&in->lock);
	while (in->filled - in->taken == BLOCKS && !in->stop)
		pthread_cond_wait(&in->changed, &in->lock);
	stop = in->stop;
	pthread_mutex_unlock(&in->lock);
	return stop ? err_set(err, ERR_CANCELLED, "conversion was given up") : 0;
}

static void give_block(struct intake *in)
{
	struct block *b = &in->blocks[in->filled % BLOCKS];

	b->kind = esgz_stream_kind(in->stream);
	b->bytes_in = in->bytes_in;
	pthread_mutex_lock(&in->lock);
	in->filled++;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct intake *in = arg;

	while (plain.n > 0) {
		struct block *b = &in->blocks[in->filled % BLOCKS];
		struct str part = str_sub(plain, 0, BLOCK_BYTES - b->plain.n);

		if (b->plain.n == 0)
			buf_reserve(&b->plain, BLOCK_BYTES);
		buf_addstr(&b->plain, part);
		plain = str_sub(plain, part.n, plain.n);
		if (b->plain.n < BLOCK_BYTES)
			return 0;
		give_block(in);
		TRY(wait_block(in, err));
		buf_clear(&in->blocks[in->filled % BLOCKS].plain);
	}
	return 0;
}

static int read_all(struct intake *in, struct err *err)
{
	AUTO_FREE char *bytes = xmalloc(READ_BYTES);
	size_t n;

	for (;;) {
		TRY(in->io->read(in->io->arg, bytes, READ_BYTES, &n, err));
		if (n == 0)
			break;
		hasher_add(in->hasher, bytes, n);
		in->bytes_in += n;
		TRY(esgz_stream_feed(in->stream, str_make(bytes, n), on_plain, in, err));
	}
	TRY(esgz_stream_finish(in->stream, err));
	if (in->blocks[in->filled % BLOCKS].plain.n > 0)
		give_block(in);
	hasher_done(in->hasher, &in->digest);
	return 0;
}

static void *run(void *arg)
{
	struct intake *in = arg;
	int r = read_all(in, &in->err);

	pthread_mutex_lock(&in->lock);
	in->result = r;
	in->ended = true;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
	return NULL;
}

/* ---- the owner ---- */

/* Signals belong to the threads that the program chose for them. */
static int start(struct intake *in, struct err *err)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&in->thread, NULL, run, in);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_errno(err, r, "start the thread that reads the layer");
	in->started = true;
	pthread_setname_np(in->thread, "intake");
	return 0;
}

int intake_new(const struct esgz_convert_io *io, struct intake **out, struct err *err)
{
	AUTO(intake) struct intake *in = xcalloc(1, sizeof(*in));

	in->io = io;
	in->stream = esgz_stream_new();
	in->hasher = hasher_new();
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	TRY(start(in, err));
	*out = STEAL(in);
	return 0;
}

void intake_free(struct intake *in)
{
	bool reads;

	if (!in)
		return;
	pthread_mutex_lock(&in->lock);
	in->stop = true;
	reads = in->started && !in->ended;
	pthread_cond_signal(&in->changed);
	pthread_mutex_unlock(&in->lock);
	if (reads && in->io->stop)
		in->io->stop(in->io->arg);
	if (in->started)
		pthread_join(in->thread, NULL);
	for (unsigned i = 0; i < BLOCKS; i++)
		buf_fini(&in->blocks[i].plain);
	esgz_stream_free(in->stream);
	hasher_free(in->hasher);
	pthread_mutex_destroy(&in->lock);
	pthread_cond_destroy(&in->changed);
	free(in);
}

int intake_next(struct intake *in, struct str *plain, enum esgz_compression *kind, struct err *err)
{
	const struct block *b;
	bool has;

	pthread_mutex_lock(&in->lock);
	if (in->holding) {
		in->taken++;
		pthread_cond_signal(&in->changed);
	}
	while (in->taken == in->filled && !in->ended)
		pthread_cond_wait(&in->changed, &in->lock);
	has = in->taken < in->filled;
	pthread_mutex_unlock(&in->lock);
	in->holding = has;
	*plain = STR_NONE;
	if (!has) {
		in->given_in = in->bytes_in;
		if (in->result < 0 && err)
			*err = in->err;
		return in->result;
	}
	b = &in->blocks[in->taken % BLOCKS];
	*plain = buf_str(&b->plain);
	*kind = b->kind;
	in->given_in = b->bytes_in;
	return 0;
}

uint64_t intake_bytes(const struct intake *in)
{
	return in->given_in;
}

const struct digest *intake_digest(const struct intake *in)
{
	return &in->digest;
}
