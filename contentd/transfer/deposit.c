#include "contentd/transfer/deposit.h"

#include "base/random.h"
#include "contentd/transfer/recording.h"

#include <errno.h>
#include <zlib.h>

#define GZIP_LEVEL 6
#define GZIP_WINDOW (15 + 16) /* zlib: 32 KiB, with a gzip header */
#define CHUNK_BYTES (256u << 10)

int cd_deposit_begin(struct cd_deposit *p, struct cd_transfer *t, struct err *err)
{
	char id[33];
	AUTO_FREE char *ref = xasprintf("transfer-%s", random_hex(id, 16));

	*p = (struct cd_deposit){.t = t};
	return cd_writer_open(t->d->content, t->ns, ref, 0, "", &p->writer, err);
}

int cd_deposit_write(struct cd_deposit *p, struct str bytes, struct err *err)
{
	TRY(cd_writer_write(p->writer, bytes, err));
	p->bytes += (int64_t)bytes.n;
	return 0;
}

static int record(struct cd_transfer *t, const struct digest *digest, int64_t bytes, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	AUTO(cd_recording) struct cd_recording r;
	char text[DIGEST_TEXT_MAX];
	Records__Content *record;

	cd_recording_init(&r, t->d, t->ns, t->lease, "");
	h = cd_meta_hold(t->d->meta, CD_CONTENT, t->ns, str_of(digest_text(digest, text)));
	TRY(cd_recording_get(&r, "", text, bytes, &record, err));
	cd_recording_put(&r, record);
	return cd_recording_commit(&r, err);
}

int cd_deposit_end(struct cd_deposit *p, const struct digest *expected, struct digest *out, struct err *err)
{
	char got[DIGEST_TEXT_MAX], want[DIGEST_TEXT_MAX];
	AUTO(cd_writer) struct cd_writer *w = STEAL(p->writer);

	cd_writer_digest(w, out);
	if (expected && !digest_eq(out, expected)) {
		cd_writer_abort(w, NULL);
		return err_set(err, ERR_DATA_LOSS, "its digest is %s, should be %s", digest_text(out, got),
		               digest_text(expected, want));
	}
	cd_use_blob_for_call(p->t->d, p->t->call, p->t->ns, digest_text(out, got));
	TRY(cd_writer_commit(w, out, err));
	return record(p->t, out, p->bytes, err);
}

void cd_deposit_fini(struct cd_deposit *p)
{
	if (!p->writer)
		return;
	cd_writer_abort(p->writer, NULL);
	cd_writer_close(STEAL(p->writer));
}

int cd_deposit_all(struct cd_transfer *t, struct str bytes, struct digest *out, struct err *err)
{
	AUTO(cd_deposit) struct cd_deposit p = {0};

	TRY(cd_deposit_begin(&p, t, err));
	TRY(cd_deposit_write(&p, bytes, err));
	return cd_deposit_end(&p, NULL, out, err);
}

/* ---- gzip ---- */

struct gzip {
	z_stream z;
	struct cd_deposit *to;
	uint8_t in[CHUNK_BYTES], out[CHUNK_BYTES];
};

static int deflate_all(struct gzip *g, int flush, struct err *err)
{
	int r;

	do {
		g->z.next_out = g->out;
		g->z.avail_out = sizeof(g->out);
		r = deflate(&g->z, flush);
		if (r == Z_STREAM_ERROR)
			return err_set(err, ERR_INTERNAL, "deflate: %s", g->z.msg ?: "broken state");
		TRY(cd_deposit_write(g->to, str_make(g->out, sizeof(g->out) - g->z.avail_out), err));
	} while (g->z.avail_out == 0);
	return 0;
}

static int compress_file(struct gzip *g, int fd, struct err *err)
{
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, g->in, sizeof(g->in), at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read a layer");
		TRY(rpc_cancelled(g->to->t->call, err));
		g->z.next_in = g->in;
		g->z.avail_in = (unsigned)n;
		at += n;
		TRY(deflate_all(g, Z_NO_FLUSH, err));
	}
	return deflate_all(g, Z_FINISH, err);
}

int cd_deposit_gzip(struct cd_transfer *t, int fd, struct digest *out, int64_t *bytes, struct err *err)
{
	AUTO(cd_deposit) struct cd_deposit p = {0};
	AUTO_FREE struct gzip *g = xcalloc(1, sizeof(*g));
	int r;

	TRY(cd_deposit_begin(&p, t, err));
	g->to = &p;
	if (deflateInit2(&g->z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return err_set(err, ERR_EXHAUSTED, "no memory to compress");
	r = compress_file(g, fd, err);
	deflateEnd(&g->z);
	TRY(r);
	*bytes = p.bytes;
	return cd_deposit_end(&p, NULL, out, err);
}
