/* content-convert, which contentctl convert hands over to. */
#include "contentd/convert/report.h"

#include "base/file.h"
#include "contentd/ctl/term.h"
#include "registry/reference.h"

#include <argp.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#define EXIT_USAGE 64
#define EXIT_FAILED 125
#define EXIT_INTERRUPTED 130
#define LIST_BYTES_MAX (16u << 20)

struct args {
	const char *src, *dst, *priority_list;
	struct place_opts src_opts, dst_opts;
	struct convert_opts convert;
	VEC(struct reg_platform) platforms;
	VEC(const char *) reuse;
	bool index_only, says_how; /* how layers are to be converted */
	bool dry_run, json, quiet;
};

struct program {
	struct args *args;
	struct place *from, *to;
	VEC(struct place *) reuse;
	struct buf priority;
	VEC(struct str) paths;
	struct term_progress bars;
	pthread_mutex_t lock;
	struct convert *convert; /* lock; what a signal cancels */
	bool interrupted;        /* lock */
	bool started;            /* lock; there may be something to clean up */
};

enum {
	OPT_FORMAT = 256,
	OPT_KEEP_DIFF_ID,
	OPT_LEVEL,
	OPT_CHUNK,
	OPT_MIN_CHUNK,
	OPT_PRIORITY,
	OPT_PLATFORM,
	OPT_REUSE,
	OPT_DROP_LAZY,
	OPT_KEEP_ATTESTATIONS,
	OPT_INDEX_ONLY,
	OPT_DRY_RUN,
	OPT_SRC_CREDS,
	OPT_DST_CREDS,
	OPT_CA,
	OPT_INSECURE,
};

static const struct argp_option OPTIONS[] = {
    {NULL, 0, NULL, 0, "What the layers become:", 1},
    {"format", OPT_FORMAT, "FORMAT", 0,
     "estargz (default), estargz-external-toc, zstd:chunked, zstd:chunked-stargz, zstd or gzip", 1},
    {"keep-diff-id", OPT_KEEP_DIFF_ID, NULL, 0,
     "leave the tar of each layer as it is (estargz-external-toc, zstd:chunked-stargz; the last three always do)", 1},
    {"level", OPT_LEVEL, "N", 0, "compression level: gzip 1-12 (6), zstd 1-19 (9)", 1},
    {"chunk-size", OPT_CHUNK, "KIB", 0, "chunk size in KiB (256; zstd:chunked cuts by content)", 1},
    {"min-chunk-size", OPT_MIN_CHUNK, "KIB", 0,
     "put chunks together until so much is there (0; readers older than stargz-snapshotter 0.13 break on it)", 1},
    {"priority-list", OPT_PRIORITY, "FILE", 0,
     "paths, one a line, of files that come first and are fetched before they are asked for", 1},
    {"threads", 't', "N", 0, "threads that compress, up to 256 (all CPUs); the result does not depend on it", 1},
    {NULL, 0, NULL, 0, "What is converted:", 2},
    {"platform", OPT_PLATFORM, "OS/ARCH[/VARIANT]", 0,
     "only this image of an index; may be given again (all, as an index; of one platform the image itself)", 2},
    {"reuse", OPT_REUSE, "PLACE", 0, "look for converted layers here, too, beside what DST has now; may be given again",
     2},
    {"drop-lazy", OPT_DROP_LAZY, NULL, 0, "make ordinary layers of lazy ones, if --format says so", 2},
    {"keep-attestations", OPT_KEEP_ATTESTATIONS, NULL, 0,
     "copy attestations of images that change, although they are of other bytes", 2},
    {"index-only", OPT_INDEX_ONLY, NULL, 0,
     "convert nothing: put indexes, with which the gzip layers of SRC can be fetched on demand, beside it in its "
     "registry",
     2},
    {"dry-run", OPT_DRY_RUN, NULL, 0, "show what would be done, and do nothing", 2},
    {NULL, 0, NULL, 0, "Where from, where to:", 3},
    {"src-creds", OPT_SRC_CREDS, "USER:PASSWORD", 0, "for the source registry (default: docker login's)", 3},
    {"dest-creds", OPT_DST_CREDS, "USER:PASSWORD", 0, "for the destination registry (default: docker login's)", 3},
    {"ca-file", OPT_CA, "FILE", 0, "certificate authorities of the registries, PEM", 3},
    {"insecure", OPT_INSECURE, NULL, 0,
     "speak HTTP without TLS to all registries, passwords included (as it is done on this machine anyway)", 3},
    {NULL, 0, NULL, 0, "Output:", 4},
    {"json", 'j', NULL, 0, "print plan or result as JSON", 4},
    {"quiet", 'q', NULL, 0, "no progress", 4},
    {0},
};

static uint64_t number(struct argp_state *state, const char *arg, const char *what, uint64_t min, uint64_t max)
{
	uint64_t v;

	if (!str_u64(str_of(arg), 10, &v) || v < min || v > max)
		argp_error(state, "%s takes a number from %llu to %llu, not '%s'", what, (unsigned long long)min,
		           (unsigned long long)max, arg);
	return v;
}

static void add_platform(struct args *a, const char *arg, struct argp_state *state)
{
	struct reg_platform platform;
	struct err err = ERR_INIT;

	if (reg_platform_parse(str_of(arg), &platform, &err) < 0)
		argp_error(state, "--platform: %s", err.msg);
	vec_push(&a->platforms, platform);
}

static error_t parse_layer(int key, char *arg, struct argp_state *state)
{
	struct esgz_convert_opts *o = &((struct args *)state->input)->convert.layer;

	switch (key) {
	case OPT_FORMAT:
		if (!esgz_format_parse(str_of(arg), &o->format))
			argp_error(state, "--format takes one of %s, not '%s'", esgz_format_names(), arg);
		return 0;
	case OPT_KEEP_DIFF_ID:
		o->keep_diff_id = true;
		return 0;
	case 't':
		o->threads = (unsigned)number(state, arg, "--threads", 1, ESGZ_CONVERT_THREADS_MAX);
		return 0;
	case OPT_LEVEL:
		o->level = (int)number(state, arg, "--level", 1, 19);
		return 0;
	case OPT_CHUNK:
		o->chunk_bytes = (uint32_t)number(state, arg, "--chunk-size", 4, 65536) << 10;
		return 0;
	case OPT_MIN_CHUNK:
		o->min_chunk_bytes = (uint32_t)number(state, arg, "--min-chunk-size", 0, 65536) << 10;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* With --index-only there is nothing to say of formats and destinations. */
static void check_usage(const struct args *a, struct argp_state *state)
{
	const struct convert_opts *o = &a->convert;

	if (!a->index_only && !a->dst)
		argp_error(state, "from where to where?");
	if (!a->index_only)
		return;
	if (!a->src || a->dst)
		argp_error(state, "--index-only takes one image: its indexes come into the same repository");
	if (a->says_how || a->priority_list || a->reuse.n || a->dst_opts.creds || o->drop_lazy || o->keep_attestations)
		argp_error(state, "--index-only converts nothing: of the options for that none fits");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case OPT_PRIORITY:
		a->priority_list = arg;
		return 0;
	case OPT_PLATFORM:
		add_platform(a, arg, state);
		return 0;
	case OPT_REUSE:
		vec_push(&a->reuse, arg);
		return 0;
	case OPT_DROP_LAZY:
		a->convert.drop_lazy = true;
		return 0;
	case OPT_KEEP_ATTESTATIONS:
		a->convert.keep_attestations = true;
		return 0;
	case OPT_INDEX_ONLY:
		a->index_only = true;
		return 0;
	case OPT_DRY_RUN:
		a->dry_run = true;
		return 0;
	case OPT_SRC_CREDS:
		a->src_opts.creds = arg;
		return 0;
	case OPT_DST_CREDS:
		a->dst_opts.creds = arg;
		return 0;
	case OPT_CA:
		a->src_opts.ca_file = a->dst_opts.ca_file = arg;
		return 0;
	case OPT_INSECURE:
		a->src_opts.insecure = a->dst_opts.insecure = true;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->dst)
			argp_error(state, "one source and one destination");
		*(a->src ? &a->dst : &a->src) = arg;
		return 0;
	case ARGP_KEY_END:
		check_usage(a, state);
		return 0;
	default:
		a->says_how |= (key >= OPT_FORMAT && key <= OPT_MIN_CHUNK) || key == 't';
		return parse_layer(key, arg, state);
	}
}

/* ---- signals ---- */

/* The first one ends the conversion, which cleans up; the second one ends the program. */
static void *wait_for_signal(void *arg)
{
	struct program *p = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigwait(&set, &sig);
	pthread_mutex_lock(&p->lock);
	if (!p->started) {
		fprintf(stderr, "contentctl convert: interrupted\n");
		_exit(EXIT_INTERRUPTED);
	}
	p->interrupted = true;
	if (p->convert)
		convert_cancel(p->convert);
	pthread_mutex_unlock(&p->lock);
	sigwait(&set, &sig);
	_exit(EXIT_INTERRUPTED);
}

/* Before any other thread is there, which then has them blocked, too. */
static int catch_signals(struct program *p, struct err *err)
{
	pthread_t thread;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (pthread_create(&thread, NULL, wait_for_signal, p))
		return err_set(err, ERR_EXHAUSTED, "start a thread");
	pthread_detach(thread);
	return 0;
}

static void set_current(struct program *p, struct convert *c)
{
	pthread_mutex_lock(&p->lock);
	p->convert = c;
	p->started = true;
	pthread_mutex_unlock(&p->lock);
}

/* ---- running ---- */

static void show(void *arg, size_t i, uint64_t done)
{
	static const char *const states[] = {"converting", "copying", "reusing"};
	struct program *p = arg;
	const struct convert_layer *l = p->convert->layers.p[i];
	const char *state = p->args->index_only ? "indexing" : states[l->action];
	AUTO_FREE char *name = xasprintf("layer %zu of %zu", i + 1, p->convert->layers.n);

	term_progress_set(&p->bars, name, done < l->from->size ? state : "done", (int64_t)done, (int64_t)l->from->size);
}

static int read_list(struct program *p, struct err *err)
{
	struct convert_opts *o = &p->args->convert;
	struct str rest, line;

	TRY(file_read(AT_FDCWD, p->args->priority_list, LIST_BYTES_MAX, &p->priority, err));
	digest_of(p->priority.p ?: "", p->priority.n, &o->priority);
	rest = buf_str(&p->priority);
	while (str_split(&rest, '\n', &line)) {
		line = str_trim(line);
		while (str_skip(&line, STR("/")) || str_skip(&line, STR("./")))
			;
		if (line.n)
			vec_push(&p->paths, line);
	}
	o->layer.priority = p->paths.p;
	o->layer.n_priority = p->paths.n;
	return 0;
}

/* True if the places are of one registry, so that the credentials of one may be shown to the other. */
static bool same_registry(const char *a, const char *b)
{
	struct str x = str_of(a), y = str_of(b);
	struct reg_ref at, other;

	str_skip(&x, STR("docker://"));
	str_skip(&y, STR("docker://"));
	return reg_ref_parse(x, &at, NULL) >= 0 && reg_ref_parse(y, &other, NULL) >= 0 &&
	       strcmp(at.host, other.host) == 0;
}

static int open_places(struct program *p, struct err *err)
{
	struct args *a = p->args;

	TRY(place_open(a->src, false, &a->src_opts, &p->from, err));
	vec_each(&a->reuse, name) {
		struct place_opts opts = a->dst_opts;
		struct place *reuse;

		if (!same_registry(*name, a->dst))
			opts.creds = same_registry(*name, a->src) ? a->src_opts.creds : NULL;
		TRY(place_open(*name, false, &opts, &reuse, err));
		vec_push(&p->reuse, reuse);
	}
	return place_open(a->dst, true, &a->dst_opts, &p->to, err);
}

static int run_index(struct program *p, struct err *err)
{
	struct args *a = p->args;
	AUTO(indexing) struct indexing *x = NULL;
	int r;

	TRY(place_open(a->src, false, &a->src_opts, &p->from, err));
	TRY(place_open(a->src, true, &a->src_opts, &p->to, err));
	x = indexing_new(p->from, p->to, &a->convert);
	set_current(p, x->convert);
	r = indexing_plan(x, err);
	if (r >= 0 && !a->dry_run)
		r = indexing_run(x, err);
	set_current(p, NULL);
	term_progress_end(&p->bars, true);
	if (r >= 0)
		report_indexes(x, !a->dry_run, a->json);
	return r;
}

static int run_convert(struct program *p, struct err *err)
{
	struct args *a = p->args;
	AUTO(convert) struct convert *c = NULL;
	int r;

	if (a->priority_list)
		TRY(read_list(p, err));
	TRY(open_places(p, err));
	a->convert.reuse = p->reuse.p;
	a->convert.n_reuse = p->reuse.n;
	c = convert_new(p->from, p->to, &a->convert);
	set_current(p, c);
	r = convert_plan(c, err);
	if (r >= 0 && !a->dry_run)
		r = convert_run(c, err);
	set_current(p, NULL);
	term_progress_end(&p->bars, true);
	if (r >= 0)
		(a->dry_run ? report_plan : report_result)(c, a->json);
	return r;
}

static int run(struct program *p, struct err *err)
{
	struct convert_opts *o = &p->args->convert;

	o->platforms = p->args->platforms.p;
	o->n_platforms = p->args->platforms.n;
	o->progress = show;
	o->arg = p;
	return p->args->index_only ? run_index(p, err) : run_convert(p, err);
}

static void close_places(struct program *p)
{
	place_free(p->from);
	place_free(p->to);
	vec_each(&p->reuse, place)
		place_free(*place);
	vec_fini(&p->reuse);
	vec_fini(&p->paths);
	vec_fini(&p->args->platforms);
	vec_fini(&p->args->reuse);
	buf_fini(&p->priority);
}

int main(int argc, char **argv)
{
	struct argp argp = {
	    OPTIONS,
	    parse,
	    "SRC DST\n--index-only SRC",
	    "Brings the layers of an image into a format that can be fetched on demand, or back.\v"
	    "SRC and DST: oci:DIR[:TAG], oci-archive:FILE[:TAG], or a reference of a registry. Layers are "
	    "converted as they come and are stored nowhere else; what is the same is not sent again.",
	    NULL,
	    NULL,
	    NULL};
	struct args a = {0};
	struct program p = {.args = &a, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct err err = ERR_INIT;
	int r;

	argp_err_exit_status = EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	p.bars = TERM_PROGRESS_INIT(isatty(STDERR_FILENO) && !a.quiet && !a.json && !a.dry_run);
	r = catch_signals(&p, &err);
	if (r >= 0)
		r = run(&p, &err);
	term_progress_end(&p.bars, true);
	close_places(&p);
	if (r >= 0)
		return 0;
	fprintf(stderr, "contentctl convert: %s\n", p.interrupted ? "interrupted" : err.msg);
	return p.interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
}
