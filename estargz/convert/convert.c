#include "estargz/convert/convert.h"

#include "estargz/convert/format.h"
#include "estargz/convert/intake.h"
#include "estargz/convert/order.h"
#include "estargz/convert/writer.h"
#include "estargz/toc/toc.h"

/*
 * Source -> intake (a thread: reads, hashes, inflates) -> tar -> the writer of the format, which cuts what it gets into
 * units -> units (a pool: hashes chunks, compresses) -> in order, the blob. What is hashed here, on the one thread that
 * everything passes, is hashed once: a tar that is kept has one DiffID, and one that comes uncompressed is its own blob.
 */

#define LANDMARK_BYTE "\x0f"

struct convert {
	const struct format *format;
	const struct esgz_convert_opts *opts;
	const struct esgz_convert_io *io;
	bool keep; /* the tar stays as it is */
	struct out out;
	struct esgz_tar *tar;
	struct writer *writer;
	const struct writer_ops *ops;
	struct order *order;
	struct hasher *source_plain;
	struct digest scanned; /* the source's, when it was read for its order; else zeros */
	bool skip;             /* the entry at hand is left out */
	struct buf path;
};

static void convert_fini(struct convert *c)
{
	out_fini(&c->out);
	esgz_tar_free(c->tar);
	if (c->ops)
		c->ops->free(c->writer);
	order_free(c->order);
	hasher_free(c->source_plain);
	buf_fini(&c->path);
}
DEFINE_AUTO_FINI(convert);

/* ---- the source ---- */

typedef int (*plain_fn)(struct convert *c, struct str plain, struct err *err);

/* Plain bytes of the source, once through, to `fn`. */
static int read_source(struct convert *c, plain_fn fn, enum esgz_compression *kind, struct esgz_convert_result *r,
                       struct err *err)
{
	AUTO(intake) struct intake *in = NULL;
	struct str plain;

	*kind = ESGZ_PLAIN;
	TRY(intake_new(c->io, &in, err));
	for (;;) {
		TRY(intake_next(in, &plain, kind, err));
		c->out.bytes_in = intake_bytes(in);
		if (plain.n == 0)
			break;
		/* Before the first byte goes out. */
		if (*kind == ESGZ_PLAIN && c->keep && c->out.plain) {
			hasher_free(c->out.plain);
			c->out.plain = NULL;
		}
		TRY(fn(c, plain, err));
		if (*kind != ESGZ_PLAIN && !c->keep)
			hasher_add(c->source_plain, plain.p, plain.n);
	}
	r->source_blob = *intake_digest(in);
	r->source_bytes = intake_bytes(in);
	return 0;
}

static int feed_tar(struct convert *c, struct str plain, struct err *err)
{
	return esgz_tar_feed(c->tar, plain, err);
}

static int check_same_source(const struct convert *c, const struct esgz_convert_result *r, struct err *err)
{
	char first[DIGEST_TEXT_MAX], second[DIGEST_TEXT_MAX];

	if (digest_is_zero(&c->scanned) || digest_eq(&c->scanned, &r->source_blob))
		return 0;
	return err_set(err, ERR_DATA_LOSS, "the source had digest %s when it was read first, and %s the second time",
	               digest_text(&c->scanned, first), digest_text(&r->source_blob, second));
}

/* ---- entries ---- */

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct convert *c = arg;

	if (!c->keep) {
		TRY(esgz_path_clean(t->e.path, &c->path, err));
		c->skip = esgz_is_marker(buf_str(&c->path)) || (c->order && order_has(c->order, buf_str(&c->path)));
	}
	return c->skip ? 0 : c->ops->entry(c->writer, t, err);
}

/* Of those that come first, none is left out. */
static int on_first(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct convert *c = arg;

	return c->ops->entry(c->writer, t, err);
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct convert *c = arg;

	return c->skip ? 0 : c->ops->data(c->writer, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
	struct convert *c = arg;

	return c->skip ? 0 : c->ops->end(c->writer, err);
}

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	struct convert *c = arg;

	return c->ops->raw(c->writer, bytes, err);
}

/* What is to be fetched before it is used: all before this entry, or nothing. */
static int put_landmark(struct convert *c, const char *name, struct err *err)
{
	const struct esgz_tar_entry t = {.e = {.type = ESGZ_REG, .path = str_of(name), .size = 1}};

	TRY(c->ops->entry(c->writer, &t, err));
	TRY(c->ops->data(c->writer, STR(LANDMARK_BYTE), err));
	return c->ops->end(c->writer, err);
}

/* The files of the priority list: finds them, reading the source once or twice. */
static int scan(struct convert *c, struct err *err)
{
	struct esgz_convert_result seen = {0};
	struct esgz_tar_sink sink;
	enum esgz_compression kind;

	if (!c->io->rewind)
		return err_set(err, ERR_INVALID, "a priority list needs a source that can be read twice");
	c->order = order_new(c->opts->priority, c->opts->n_priority);
	do {
		order_scan_begin(c->order, &sink);
		c->tar = esgz_tar_new(&sink);
		TRY(read_source(c, feed_tar, &kind, &seen, err));
		TRY(esgz_tar_finish(c->tar, err));
		esgz_tar_free(c->tar);
		c->tar = NULL;
		TRY(check_same_source(c, &seen, err));
		c->scanned = seen.source_blob;
		hasher_reset(c->source_plain);
		TRY(c->io->rewind(c->io->arg, err));
	} while (order_scan_end(c->order));
	return 0;
}

/* ---- formats ---- */

static int convert_lazy(struct convert *c, enum esgz_compression *kind, struct esgz_convert_result *r, struct err *err)
{
	struct esgz_tar_sink sink = {.entry = on_entry, .data = on_data, .end = on_end, .arg = c};
	size_t first = 0;

	c->ops = c->format->stargz ? &WRITER_STARGZ : &WRITER_STORAGE;
	if (c->opts->n_priority)
		TRY(scan(c, err));
	c->writer = c->ops->new (&c->out, c->keep);
	if (c->order) {
		const struct esgz_tar_sink to = {.entry = on_first, .data = on_data, .end = on_end, .arg = c};

		TRY(order_emit(c->order, &to, &first, err));
	}
	if (!c->keep)
		TRY(put_landmark(c, first ? ESGZ_PREFETCH_LANDMARK : ESGZ_NO_PREFETCH_LANDMARK, err));
	if (c->keep)
		sink.raw = on_raw;
	c->tar = esgz_tar_new(&sink);
	TRY(read_source(c, feed_tar, kind, r, err));
	TRY(esgz_tar_finish(c->tar, err));
	TRY(check_same_source(c, r, err));
	return c->ops->finish(c->writer, r, err);
}

static int feed_stream(struct convert *c, struct str plain, struct err *err)
{
	struct out *o = &c->out;

	if (o->plain)
		hasher_add(o->plain, plain.p, plain.n);
	o->plain_bytes += plain.n;
	return units_write(o->units, plain, units_stream_bytes(c->format->compression), err);
}

static int convert_stream(struct convert *c, enum esgz_compression *kind, struct esgz_convert_result *r,
                          struct err *err)
{
	TRY(read_source(c, feed_stream, kind, r, err));
	return units_write_end(c->out.units, err);
}

static int convert(struct convert *c, struct esgz_convert_result *r, struct err *err)
{
	enum esgz_compression kind;

	TRY(esgz_convert_check(c->opts, err));
	c->format = format_of(c->opts->format);
	c->keep = c->opts->keep_diff_id || c->format->must_keep;
	c->source_plain = hasher_new();
	c->out.plain = hasher_new();
	TRY(out_init(&c->out, c->opts, c->io, err));
	TRY(c->format->lazy ? convert_lazy(c, &kind, r, err) : convert_stream(c, &kind, r, err));
	if (!c->out.plain)
		r->diff_id = r->source_blob;
	out_result(&c->out, r);
	if (kind == ESGZ_PLAIN)
		r->source_diff_id = r->source_blob;
	else if (c->keep)
		r->source_diff_id = r->diff_id;
	else
		hasher_done(c->source_plain, &r->source_diff_id);
	return 0;
}

int esgz_convert(const struct esgz_convert_opts *opts, const struct esgz_convert_io *io,
                 struct esgz_convert_result *out, struct err *err)
{
	AUTO(convert) struct convert c = {.opts = opts, .io = io};
	int r;

	*out = (struct esgz_convert_result){0};
	r = convert(&c, out, err);
	if (r < 0)
		esgz_convert_result_fini(out);
	return r;
}
