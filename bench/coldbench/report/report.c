#include "bench/coldbench/report/report.h"

#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/csv.h"
#include "bench/coldbench/report/json.h"
#include "bench/coldbench/report/page.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILES_MAX 256

/* All that was read. */
struct input {
	struct sample_set set; /* of all files, with the header of each */
	sources from;
};

static void input_fini(struct input *in)
{
	sample_set_fini(&in->set);
	vec_each(&in->from, s) {
		header_fini(&s->header);
		free(s->path);
		free(s->link);
	}
	vec_fini(&in->from);
}
DEFINE_AUTO_FINI(input);

static int add_file(struct input *in, const char *path, struct err *err)
{
	AUTO(sample_set) struct sample_set set = {0};
	struct source *s;

	if (in->from.n == FILES_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d files of raw data", FILES_MAX);
	TRY(sample_set_read(path, &set, err));
	s = vec_add(&in->from);
	s->path = xstrdup(path);
	TRY_WRAP(header_parse(buf_str(&set.header), &s->header, err), err, "%s:1", path);
	if (in->from.n == 1) {
		in->set = set;
		set = (struct sample_set){0};
		return 0;
	}
	buf_addc(&in->set.header, '\n');
	buf_addstr(&in->set.header, buf_str(&set.header));
	vec_each(&set.samples, sample)
		vec_push(&in->set.samples, *sample);
	vec_clear(&set.samples);
	return 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Files NAME.jsonl of a folder, by name. */
static int add_folder(struct input *in, const char *path, struct err *err)
{
	VEC(char *) paths = VEC_INIT;
	AUTO_DIR DIR *d = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!d)
		return err_errno(err, errno, "open %s", path);
	while (paths.n <= FILES_MAX && (e = readdir(d))) /* one too many is told by add_file */
		if (str_ends(str_of(e->d_name), STR(".jsonl")))
			vec_push(&paths, xasprintf("%s/%s", path, e->d_name));
	if (paths.n)
		qsort(paths.p, paths.n, sizeof(*paths.p), compare_paths);
	else
		r = err_set(err, ERR_NOT_FOUND, "%s: no raw data (*.jsonl) in it", path);
	vec_each(&paths, p) {
		if (!r)
			r = add_file(in, *p, err);
		free(*p);
	}
	vec_fini(&paths);
	return r;
}

static int read_all(struct input *in, const struct report_options *o, struct err *err)
{
	for (size_t i = 0; i < o->n_paths; i++) {
		struct stat st;

		if (stat(o->paths[i], &st))
			return err_errno(err, errno, "%s", o->paths[i]);
		if (S_ISDIR(st.st_mode))
			TRY(add_folder(in, o->paths[i], err));
		else
			TRY(add_file(in, o->paths[i], err));
	}
	if (!in->set.samples.n)
		return err_set(err, ERR_NOT_FOUND, "no samples");
	return 0;
}

static void warn(const struct input *in, FILE *to)
{
	const struct source *first = in->from.p;

	vec_each(&in->from, s) {
		const char *a = first->header.suite ? first->header.suite : "",
			   *b = s->header.suite ? s->header.suite : "";

		if (!header_same_machine(&first->header, &s->header))
			fprintf(to,
			        "coldbench: %s and %s come from different machines; cases that both have are mixed\n",
			        first->path, s->path);
		if (strcmp(a, b) != 0)
			fprintf(to, "coldbench: %s is of another suite than %s\n", s->path, first->path);
	}
}

static const char *name_in_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* However the paths are written. */
static bool same_folder(const char *a, const char *b)
{
	AUTO_FREE char *of_a = xasprintf("%.*s.", (int)(name_in_folder(a) - a), a);
	AUTO_FREE char *of_b = xasprintf("%.*s.", (int)(name_in_folder(b) - b), b);
	struct stat at_a, at_b;

	return !stat(of_a, &at_a) && !stat(of_b, &at_b) && at_a.st_dev == at_b.st_dev && at_a.st_ino == at_b.st_ino;
}

/* Pages and their raw data travel together: only what lies in the page's folder is linked. */
static void link_sources(struct input *in, const char *html)
{
	vec_each(&in->from, s)
		if (same_folder(s->path, html))
			s->link = xstrdup(name_in_folder(s->path));
}

static int write_csv(const struct analysis *a, const char *path, struct err *err)
{
	AUTO(buf) struct buf samples = BUF_INIT;
	AUTO(buf) struct buf summary = BUF_INIT;
	struct str stem = str_of(path);
	AUTO_FREE char *summary_path = NULL;

	if (str_ends(stem, STR(".csv")))
		stem.n -= strlen(".csv");
	summary_path = xasprintf(STR_FMT "-summary.csv", STR_ARG(stem));
	TRY(csv_samples(a->set, &samples, err));
	csv_summary(a, &summary);
	TRY(file_write_atomic(AT_FDCWD, path, buf_str(&samples), 0644, err));
	return file_write_atomic(AT_FDCWD, summary_path, buf_str(&summary), 0644, err);
}

static int print(const struct analysis *a, const struct report_options *o, struct err *err)
{
	AUTO(buf) struct buf json = BUF_INIT;

	if (!o->json)
		return table_print(a, o->out) < 0 ? err_errno(err, errno, "write the table") : 0;
	json_report(a, &json);
	fwrite(json.p, 1, json.n, o->out);
	return fflush(o->out) || ferror(o->out) ? err_errno(err, errno, "write the summary") : 0;
}

static bool has_reference(const struct analysis *a)
{
	vec_each(&a->cells, c)
		if (c->reference == c)
			return true;
	return false;
}

int report_make(const struct report_options *o, struct err *err)
{
	AUTO(input) struct input in = {0};
	AUTO(analysis) struct analysis a = {0};
	AUTO(buf) struct buf page = BUF_INIT;

	TRY(read_all(&in, o, err));
	warn(&in, o->warnings);
	analysis_init(&a, &in.set, o->reference);
	if (o->reference && !has_reference(&a))
		return err_set(err, ERR_NOT_FOUND, "no case of the reference '%s'", o->reference);
	if (a.n_left_out)
		fprintf(o->warnings, "coldbench: %zu cases are left out of all but the samples' CSV\n", a.n_left_out);
	if (o->html) {
		link_sources(&in, o->html);
		page_write(&a, &in.from, &page);
		TRY(file_write_atomic(AT_FDCWD, o->html, buf_str(&page), 0644, err));
	}
	if (o->csv)
		TRY(write_csv(&a, o->csv, err));
	return o->out ? print(&a, o, err) : 0;
}

int report_write(const char *jsonl_path, const char *html_path, const char *csv_path, struct err *err)
{
	struct report_options o = {
	    .paths = &jsonl_path, .n_paths = 1, .html = html_path, .csv = csv_path, .warnings = stderr};

	return report_make(&o, err);
}
