#include "estargz/gzseek/produce.h"

#include "estargz/gzseek/artifact.h"

#include <pthread.h>

#define BLOCK_BYTES (1u << 20)
#define BLOCKS 8
#define READ_BYTES (256u << 10)

struct block {
	bool cut; /* one is due behind it */
	size_t n;
	char bytes[BLOCK_BYTES];
};

/* The first half fills blocks in turn, the second one empties them. */
struct pipe {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned filled, emptied; /* so many in all; guarded by lock */
	bool over, aborted;       /* no more comes; no more is wanted. Guarded by lock */
	struct block blocks[BLOCKS];

	/* The first half's, until it is over. */
	struct esgz_gzseek *s;
	int (*read)(void *arg, void *dst, size_t n, size_t *got, struct err *err);
	void *arg;
	char in[READ_BYTES];
	struct err err;
	int result;
};

/* ---- first half ---- */

static int pass_on(struct pipe *p, bool cut, struct err *err)
{
	bool aborted;

	p->blocks[p->filled % BLOCKS].cut = cut;
	pthread_mutex_lock(&p->lock);
	p->filled++;
	pthread_cond_signal(&p->moved);
	while (p->filled - p->emptied == BLOCKS && !p->aborted)
		pthread_cond_wait(&p->moved, &p->lock);
	aborted = p->aborted;
	pthread_mutex_unlock(&p->lock);
	p->blocks[p->filled % BLOCKS].n = 0;
	return aborted ? err_set(err, ERR_CANCELLED, "no more is wanted") : 0;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct pipe *p = arg;

	while (plain.n) {
		struct block *b = &p->blocks[p->filled % BLOCKS];
		struct str part = str_sub(plain, 0, BLOCK_BYTES - b->n);

		memcpy(b->bytes + b->n, part.p, part.n);
		b->n += part.n;
		plain = str_sub(plain, part.n, plain.n);
		if (b->n == BLOCK_BYTES)
			TRY(pass_on(p, false, err));
	}
	return 0;
}

static int on_cut(void *arg, struct err *err)
{
	return pass_on(arg, true, err);
}

static int fill_all(struct pipe *p, struct err *err)
{
	const struct esgz_gzseek_flow flow = {on_plain, on_cut, p};
	size_t got;

	for (;;) {
		TRY(p->read(p->arg, p->in, sizeof(p->in), &got, err));
		if (!got)
			break;
		TRY(esgz_gzseek_blob(p->s, str_make(p->in, got), &flow, err));
	}
	TRY(esgz_gzseek_blob_end(p->s, err));
	return pass_on(p, false, err);
}

static void *fill(void *arg)
{
	struct pipe *p = arg;

	p->result = fill_all(p, &p->err);
	pthread_mutex_lock(&p->lock);
	p->over = true;
	pthread_cond_signal(&p->moved);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- second half ---- */

static struct block *block_to_empty(struct pipe *p)
{
	struct block *b = NULL;

	pthread_mutex_lock(&p->lock);
	while (p->filled == p->emptied && !p->over)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->filled != p->emptied)
		b = &p->blocks[p->emptied % BLOCKS];
	pthread_mutex_unlock(&p->lock);
	return b;
}

static int empty_all(struct pipe *p, struct err *err)
{
	struct block *b;

	while ((b = block_to_empty(p))) {
		TRY(esgz_gzseek_plain(p->s, str_make(b->bytes, b->n), err));
		if (b->cut)
			esgz_gzseek_cut(p->s);
		pthread_mutex_lock(&p->lock);
		p->emptied++;
		pthread_cond_signal(&p->moved);
		pthread_mutex_unlock(&p->lock);
	}
	return 0;
}

static void abort_first_half(struct pipe *p)
{
	pthread_mutex_lock(&p->lock);
	p->aborted = true;
	pthread_cond_signal(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

static int run_both(struct pipe *p, struct err *err)
{
	pthread_t thread;
	int r;

	if (pthread_create(&thread, NULL, fill, p))
		return err_set(err, ERR_EXHAUSTED, "no thread");
	r = empty_all(p, err);
	if (r < 0)
		abort_first_half(p);
	pthread_join(thread, NULL);
	if (r >= 0 && p->result < 0)
		return err_set(err, p->err.code, "%s", p->err.msg);
	return r;
}

int esgz_gzseek_run(struct esgz_gzseek *s, int (*read)(void *arg, void *dst, size_t n, size_t *got, struct err *err),
                    void *arg, struct err *err)
{
	struct pipe *p = xcalloc(1, sizeof(*p));
	int r;

	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
	p->s = s;
	p->read = read;
	p->arg = arg;
	r = run_both(p, err);
	pthread_cond_destroy(&p->moved);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return r;
}

/* ---- the artifact ---- */

int esgz_gzseek_produce(struct esgz_gzseek *s, const struct esgz_layer_result *of, struct buf *artifact,
                        struct err *err)
{
	const struct esgz_gzseek_of layer = {.blob = of->blob, .blob_bytes = of->blob_bytes, .diff_id = of->diff_id};
	AUTO(buf) struct buf index = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index_read = BUF_INIT;
	AUTO(buf) struct buf points_read = BUF_INIT;
	struct err why = ERR_INIT;
	size_t begin = artifact->n, n;

	TRY(esgz_gzseek_write(s, &index, &points, err));
	TRY(esgz_gzseek_pack(buf_str(&points), buf_str(&index), artifact, err));
	/* Each may be large, and the receiver's are made next. */
	buf_fini(&index);
	buf_fini(&points);
	n = artifact->n - begin;
	if (n >= of->blob_bytes || n > ESGZ_ARTIFACT_PACKED_MAX(of->blob_bytes)) {
		artifact->n = begin;
		return err_set(err, ERR_PRECONDITION, "its index would be %s",
		               n >= of->blob_bytes ? "as large as itself" : "more than readers take");
	}
	if (esgz_gzseek_unpack(str_sub(buf_str(artifact), begin, artifact->n), &layer, &points_read, &index_read,
	                       &why) >= 0)
		return 0;
	artifact->n = begin;
	return err_set(err, ERR_PRECONDITION, "nobody could read its index: %s", why.msg);
}
