#include "bench/coldbench/progress.h"

#include "base/buf.h"
#include "base/clock.h"

#include <sys/ioctl.h>
#include <unistd.h>

static int columns(const struct progress *p)
{
	struct winsize size;

	return !ioctl(fileno(p->to), TIOCGWINSZ, &size) && size.ws_col ? size.ws_col : 80;
}

/* In place of the line before; cut, so that it stays one. */
static void show(struct progress *p, const char *text)
{
	if (!p->is_terminal)
		return;
	fprintf(p->to, "\r\033[K%.*s", columns(p) - 1, text);
	fflush(p->to);
	p->is_dirty = true;
}

static void wipe(struct progress *p)
{
	if (p->is_dirty)
		fputs("\r\033[K", p->to);
	p->is_dirty = false;
}

char *progress_duration(double seconds, char dst[static 32])
{
	long minutes = (long)(seconds / 60 + 0.5);

	if (seconds < 90)
		snprintf(dst, 32, "%.0f s", seconds);
	else if (minutes < 90)
		snprintf(dst, 32, "%ld min", minutes);
	else
		snprintf(dst, 32, "%ld h %ld min", minutes / 60, minutes % 60);
	return dst;
}

void progress_begin(struct progress *p, FILE *to, size_t total)
{
	*p = (struct progress){
	    .to = to,
	    .is_terminal = isatty(fileno(to)),
	    .is_dirty = p->is_dirty,
	    .total = total,
	    .begun_ns = clock_mono_ns(),
	};
}

static void add_left(const struct progress *p, struct buf *out)
{
	double elapsed_s = (double)(clock_mono_ns() - p->begun_ns) / NS_PER_S;
	char text[32];

	if (p->n)
		buf_addf(out, ", about %s left",
		         progress_duration(elapsed_s / (double)p->n * (double)(p->total - p->n), text));
}

void progress_case(struct progress *p, const char *name)
{
	AUTO(buf) struct buf line = BUF_INIT;

	buf_addf(&line, "%zu of %zu", p->n + 1, p->total);
	add_left(p, &line);
	buf_addf(&line, ": %s", name);
	if (*p->last)
		buf_addf(&line, "   (%s)", p->last);
	show(p, buf_cstr(&line));
}

void progress_done(struct progress *p, const char *name, const char *figure)
{
	p->n++;
	snprintf(p->last, sizeof(p->last), "last: %s", figure);
	if (!p->is_terminal)
		fprintf(p->to, "%zu of %zu: %s: %s\n", p->n, p->total, name, figure);
	fflush(p->to);
}

void progress_say(struct progress *p, const char *fmt, ...)
{
	va_list ap;

	wipe(p);
	va_start(ap, fmt);
	vfprintf(p->to, fmt, ap);
	va_end(ap);
	fputc('\n', p->to);
	fflush(p->to);
}

void progress_step(struct progress *p, const char *fmt, ...)
{
	AUTO(buf) struct buf line = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&line, fmt, ap);
	va_end(ap);
	if (p->is_terminal)
		show(p, buf_cstr(&line));
	else
		fprintf(p->to, "%s\n", buf_cstr(&line));
}

void progress_end(struct progress *p)
{
	wipe(p);
	fflush(p->to);
}
