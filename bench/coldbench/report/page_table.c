#include "bench/coldbench/report/page_table.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

void table_begin(struct buf *out, const char *classes)
{
	buf_addf(out, "<div class=\"scroll%s\" tabindex=\"0\"><table>\n<thead><tr>", classes);
}

void table_end(struct buf *out)
{
	buf_adds(out, "</tbody></table></div>\n");
}

void table_head(struct buf *out, const char *class, const char *text)
{
	buf_addf(out, "<th scope=\"col\"%s%s%s>", *class ? " class=\"" : "", class, *class ? "\"" : "");
	html_text(out, text);
	buf_adds(out, "</th>");
}

void table_body(struct buf *out)
{
	buf_adds(out, "</tr></thead><tbody>\n");
}

void table_image(struct buf *out, const struct cell *c, size_t columns)
{
	buf_addf(out, "<tr class=\"group\"><th scope=\"rowgroup\" class=\"l\" colspan=\"%zu\"><span>", columns);
	html_text(out, c->image);
	if (c->count != 1)
		buf_addf(out, " \u00d7 %u", c->count);
	buf_adds(out, "</span></th></tr>\n");
}

void table_engine(struct buf *out, const struct cell *c)
{
	buf_addf(out, "<th scope=\"row\" class=\"l engine\"><i class=\"chip k%u v%u\"></i>", engine_style(c->engine),
	         c->variant < 3 ? c->variant : 3);
	html_text(out, c->label);
	buf_adds(out, "</th>");
}

void table_quantity(struct buf *out, const char *metric, double value)
{
	if (!isfinite(value)) {
		table_dash(out);
		return;
	}
	buf_adds(out, "<td>");
	quantity_add(out, metric, value);
	buf_adds(out, "</td>");
}

void table_dash(struct buf *out)
{
	buf_adds(out, "<td class=\"soft\">\u2013</td>");
}

void table_left_out(struct buf *out, size_t n, const char *what)
{
	if (n)
		buf_addf(out, "<p class=\"note\">Beyond what is shown here: %zu %s; the CSV has all.</p>\n", n, what);
}
