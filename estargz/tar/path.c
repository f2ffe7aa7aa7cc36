#include "estargz/index/index.h"

/* Drops the last component of the cleaned path. */
static void pop_component(struct buf *out)
{
	ptrdiff_t slash = str_rfind(buf_str(out), '/');

	out->n = slash < 0 ? 0 : (size_t)slash;
	if (out->cap > 0)
		out->p[out->n] = 0;
}

int esgz_path_clean(struct str raw, struct buf *out, struct err *err)
{
	struct str rest = raw;

	buf_clear(out);
	if (raw.n > 0 && memchr(raw.p, 0, raw.n))
		return err_set(err, ERR_INVALID, "path with a NUL byte");
	while (rest.n > 0) {
		const char *slash = memchr(rest.p, '/', rest.n);
		struct str c = str_make(rest.p, slash ? (size_t)(slash - rest.p) : rest.n);

		rest = str_sub(rest, c.n + 1, rest.n);
		if (c.n == 0 || (c.n == 1 && c.p[0] == '.'))
			continue;
		if (c.n == 2 && c.p[0] == '.' && c.p[1] == '.') {
			pop_component(out);
			continue;
		}
		if (c.n > ESGZ_NAME_MAX)
			return err_set(err, ERR_INVALID, "path component of %zu bytes: %.64s...", c.n, c.p);
		if (out->n + 1 + c.n > ESGZ_PATH_MAX)
			return err_set(err, ERR_INVALID, "path longer than %d bytes: %.64s...", ESGZ_PATH_MAX, raw.p);
		if (out->n > 0)
			buf_addc(out, '/');
		buf_addstr(out, c);
	}
	return 0;
}
