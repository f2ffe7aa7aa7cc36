#include "contentd/ctl/term.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define REDRAW_NS (50 * NS_PER_MS)
#define NAME_WIDTH 20
#define BAR_WIDTH 30

char *term_size(int64_t bytes, char dst[static 16])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 999.5 && u + 1 < ARRAY_LEN(units)) {
		v /= 1000;
		u++;
	}
	snprintf(dst, 16, u && v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
	return dst;
}

char *term_age(struct timespec then, char dst[static 32])
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {86400, "day"}, {3600, "hour"}, {60, "minute"}};
	int64_t s = (int64_t)(clock_wall().tv_sec - then.tv_sec);

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (s >= units[i].seconds) {
			int64_t n = s / units[i].seconds;

			snprintf(dst, 32, "%lld %s%s ago", (long long)n, units[i].name, n == 1 ? "" : "s");
			return dst;
		}
	snprintf(dst, 32, "%lld seconds ago", (long long)(s < 0 ? 0 : s));
	return dst;
}

/* ---- tables ---- */

void term_row(struct term_table *t, ...)
{
	va_list ap;

	va_start(ap, t);
	for (unsigned i = 0; i < t->columns; i++)
		vec_push(&t->cells, xstrdup(va_arg(ap, const char *)));
	va_end(ap);
}

static size_t column_width(const struct term_table *t, unsigned column)
{
	size_t width = 0;

	for (size_t i = column; i < t->cells.n; i += t->columns)
		if (strlen(t->cells.p[i]) > width)
			width = strlen(t->cells.p[i]);
	return width;
}

void term_table_print(struct term_table *t)
{
	AUTO_FREE size_t *width = xcalloc(t->columns, sizeof(*width));

	for (unsigned c = 0; c < t->columns; c++)
		width[c] = column_width(t, c);
	for (size_t i = 0; i < t->cells.n; i++) {
		unsigned c = (unsigned)(i % t->columns);

		if (c + 1 == t->columns)
			printf("%s\n", t->cells.p[i]);
		else
			printf("%-*s  ", (int)width[c], t->cells.p[i]);
		free(t->cells.p[i]);
	}
	vec_fini(&t->cells);
}

/* ---- progress ---- */

static void draw_item(const struct term_item *it, unsigned columns, struct buf *out)
{
	char done[16], total[16];
	AUTO(buf) struct buf line = BUF_INIT;

	buf_addf(&line, "%-*.*s %-12s", NAME_WIDTH, NAME_WIDTH, it->name, it->state);
	if (it->total > 0) {
		int filled = (int)(it->done >= it->total ? BAR_WIDTH : BAR_WIDTH * it->done / it->total);

		buf_addf(&line, " [%.*s%*s] %s / %s", filled, "==============================", BAR_WIDTH - filled, "",
		         term_size(it->done, done), term_size(it->total, total));
	} else if (it->done > 0) {
		buf_addf(&line, " %s", term_size(it->done, done));
	}
	buf_addf(out, "\r\033[K%.*s\n", (int)columns, buf_cstr(&line));
}

static void draw(struct term_progress *p)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct winsize w = {0};
	unsigned columns = 80;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col)
		columns = w.ws_col;
	if (p->drawn)
		buf_addf(&out, "\033[%uA", p->drawn);
	vec_each(&p->items, it)
		draw_item(it, columns, &out);
	p->drawn = (unsigned)p->items.n;
	p->last_ns = clock_mono_ns();
	fwrite(out.p, 1, out.n, stderr);
	fflush(stderr);
}

void term_progress_set(struct term_progress *p, const char *name, const char *state, int64_t done, int64_t total)
{
	struct term_item *item = NULL;

	if (!p->enabled)
		return;
	vec_each(&p->items, it)
		if (!strcmp(it->name, name))
			item = it;
	if (!item) {
		item = vec_add(&p->items);
		item->name = xstrdup(name);
		item->state = xstrdup("");
	}
	if (strcmp(item->state, state) != 0) {
		free(item->state);
		item->state = xstrdup(state);
	}
	item->done = done;
	item->total = total;
	if (clock_mono_ns() - p->last_ns >= REDRAW_NS)
		draw(p);
}

void term_progress_end(struct term_progress *p, bool keep)
{
	if (p->enabled && keep && p->items.n)
		draw(p);
	else if (p->enabled && p->drawn)
		fprintf(stderr, "\033[%uA\r\033[J", p->drawn);
	vec_each(&p->items, it) {
		free(it->name);
		free(it->state);
	}
	vec_fini(&p->items);
	p->drawn = 0;
}
