/* content-convert, which contentctl convert hands over to. */
#include "contentd/convert/convert.h"

#include "base/json.h"
#include "contentd/ctl/term.h"

#include <argp.h>
#include <signal.h>
#include <stdio.h>

#define EXIT_USAGE 64
#define EXIT_FAILED 125

struct args {
	const char *src, *dst;
	struct place_opts src_opts, dst_opts;
	struct convert_opts convert;
	bool json, quiet;
	struct term_progress bars;
};

enum { OPT_FORMAT = 256, OPT_LEVEL, OPT_CHUNK, OPT_PLATFORM, OPT_SRC_CREDS, OPT_DST_CREDS, OPT_CA, OPT_INSECURE };

static const struct argp_option OPTIONS[] = {
    {"format", OPT_FORMAT, "estargz", 0, "what the layers become (estargz)", 0},
    {"threads", 't', "N", 0, "threads that compress (all CPUs); the result does not depend on it", 0},
    {"level", OPT_LEVEL, "1-9", 0, "compression level (6)", 0},
    {"chunk-size", OPT_CHUNK, "KIB", 0, "chunk size in KiB (256)", 0},
    {"platform", OPT_PLATFORM, "OS/ARCH", 0, "which image of an index (this machine's)", 0},
    {"src-creds", OPT_SRC_CREDS, "USER:PASSWORD", 0, "for the source registry (default: docker login's)", 0},
    {"dest-creds", OPT_DST_CREDS, "USER:PASSWORD", 0, "for the destination registry (default: docker login's)", 0},
    {"ca-file", OPT_CA, "FILE", 0, "certificate authorities of the registries, PEM", 0},
    {"insecure", OPT_INSECURE, NULL, 0, "plain HTTP to registries that are not on this machine", 0},
    {"json", 'j', NULL, 0, "print the result as JSON", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
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

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;
	struct err err = ERR_INIT;

	switch (key) {
	case OPT_FORMAT:
		if (strcmp(arg, "estargz") != 0)
			argp_error(state, "--format takes estargz, not '%s'", arg);
		return 0;
	case 't':
		a->convert.layer.threads = (unsigned)number(state, arg, "--threads", 1, 1024);
		return 0;
	case OPT_LEVEL:
		a->convert.layer.level = (int)number(state, arg, "--level", 1, 9);
		return 0;
	case OPT_CHUNK:
		a->convert.layer.chunk_bytes = (uint32_t)number(state, arg, "--chunk-size", 4, 65536) << 10;
		return 0;
	case OPT_PLATFORM:
		if (reg_platform_parse(str_of(arg), &a->convert.platform, &err) < 0)
			argp_error(state, "--platform: %s", err.msg);
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
		if (!a->dst)
			argp_error(state, "from where to where?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void show(void *arg, unsigned layer, unsigned n_layers, uint64_t done, uint64_t total)
{
	struct args *a = arg;
	AUTO_FREE char *name = xasprintf("layer %u of %u", layer + 1, n_layers);

	term_progress_set(&a->bars, name, done ? "converted" : "converting", (int64_t)done, (int64_t)total);
}

static void print_report(const struct args *a, const struct convert_report *r)
{
	char digest[DIGEST_TEXT_MAX], in[16], out[16];
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	digest_text(&r->manifest, digest);
	if (!a->json) {
		printf("%s\n", digest);
		fprintf(stderr, "%u layers (%u were lazy already), %s became %s\n", r->n_layers, r->n_reused,
		        term_size((int64_t)r->bytes_in, in), term_size((int64_t)r->bytes_out, out));
		return;
	}
	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "digest", digest);
	json_w_ki64(&w, "layers", r->n_layers);
	json_w_ki64(&w, "reused", r->n_reused);
	json_w_ki64(&w, "bytesIn", (int64_t)r->bytes_in);
	json_w_ki64(&w, "bytesOut", (int64_t)r->bytes_out);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static int run(struct args *a, struct err *err)
{
	AUTO(place) struct place *from = NULL;
	AUTO(place) struct place *to = NULL;
	struct convert_report report;

	TRY(place_open(a->src, false, &a->src_opts, &from, err));
	TRY(place_open(a->dst, true, &a->dst_opts, &to, err));
	TRY(convert_image(from, to, &a->convert, &report, err));
	term_progress_end(&a->bars, true);
	print_report(a, &report);
	return 0;
}

int main(int argc, char **argv)
{
	struct argp argp = {OPTIONS,
	                    parse,
	                    "SRC DST",
	                    "Turns the layers of an image into eStargz, so that they can be fetched on demand.\v"
	                    "SRC and DST: oci:DIR[:TAG], oci-archive:FILE[:TAG], or a reference of a registry.",
	                    NULL,
	                    NULL,
	                    NULL};
	struct args a = {.convert = {.platform = reg_platform_host(), .progress = show}};
	struct err err = ERR_INIT;

	a.convert.arg = &a;
	argp_err_exit_status = EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	a.bars = TERM_PROGRESS_INIT(isatty(STDERR_FILENO) && !a.quiet && !a.json);
	if (run(&a, &err) >= 0)
		return 0;
	term_progress_end(&a.bars, true);
	fprintf(stderr, "contentctl convert: %s\n", err.msg);
	return EXIT_FAILED;
}
