/* contentctl info, df, version. */
#include "contentd/ctl/ctl.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "rpc/proto/node.pb-c.h"
#include "rpc/proto/version.pb-c.h"

#include <stdio.h>

static error_t no_arguments(int key, char *arg, struct argp_state *state)
{
	if (key == ARGP_KEY_ARG)
		argp_error(state, "no argument is expected, not '%s'", arg);
	return ARGP_ERR_UNKNOWN;
}

static void plain_args(struct ctl *c, const char *doc, int argc, char **argv)
{
	struct argp argp = {NULL, no_arguments, "", doc, NULL, NULL, NULL};

	ctl_parse(c, &argp, 0, argc, argv, NULL);
}

/* ---- version ---- */

static void print_version(const struct ctl *c, const Version__VersionResponse *server, const struct err *err)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	if (!c->json) {
		printf("contentctl %s\n", CONTENTD_VERSION);
		printf("contentd   %s\n", server ? server->version : err->msg);
		return;
	}
	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "client", CONTENTD_VERSION);
	if (server)
		json_w_kcstr(&w, "server", server->version);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

int ctl_version_verb(struct ctl *c, int argc, char **argv)
{
	AUTO(pb) Version__VersionResponse *rsp = NULL;
	Pb__Empty empty = PB__EMPTY__INIT;
	struct err err = ERR_INIT;
	int r;

	plain_args(c, "Prints the versions of client and daemon.", argc, argv);
	r = ctl_connect(c, &err);
	if (r >= 0)
		r = rpc_call(c->client, &version__version__descriptor, "Version", NULL, &empty.base, &rsp, &err);
	print_version(c, rsp, &err);
	return r < 0 ? CTL_EXIT_FAILED : 0;
}

/* ---- info ---- */

static const char *laziness(const Node__LayerFill *l)
{
	if (!l->lazy)
		return "";
	return l->gzip_index ? ", lazy by a gzip index" : ", lazy";
}

static void print_layer(const Node__LayerFill *l)
{
	char have[16], all[16];
	double percent = l->content_bytes ? 100.0 * (double)l->present_bytes / (double)l->content_bytes : 100.0;

	printf("  %.19s  %s of %s (%.0f %%)%s, %s%s%s%s%s\n", l->blob, term_size((int64_t)l->present_bytes, have),
	       term_size((int64_t)l->content_bytes, all), percent, laziness(l), l->verdict,
	       *l->verdict_reason ? ": " : "", l->verdict_reason, *l->error ? "; " : "", l->error);
	for (size_t i = 0; i < l->n_images; i++)
		printf("    of %s\n", l->images[i]);
}

static void print_info(const Node__InfoResponse *i)
{
	static const char *const levels[] = {"?", "one overlay over EROFS, objects and FUSE", "nested overlays",
	                                     "FUSE tree"};
	char bytes[16];

	printf("version     %s (pid %u)\n", i->version, i->pid);
	printf("root        %s\n", i->root);
	printf("state       %s\n", i->state);
	printf("kernel      %s\n", i->kernel);
	printf("mounts      level %u: %s (%s)\n", i->level, levels[i->level < ARRAY_LEN(levels) ? i->level : 0],
	       i->level_reason);
	printf("contentfs   holder %u, worker %u (number %llu)\n", i->contentfs_holder_pid, i->contentfs_worker_pid,
	       (unsigned long long)i->contentfs_generation);
	printf("fetched     %s; %llu requests for readers, %llu in the background; %llu failed reads\n",
	       term_size((int64_t)i->fetched_bytes, bytes), (unsigned long long)i->demand_requests,
	       (unsigned long long)i->background_requests, (unsigned long long)i->read_errors);
	if (i->n_layers)
		printf("layers\n");
	for (size_t n = 0; n < i->n_layers; n++)
		print_layer(i->layers[n]);
}

static void write_layers(struct json_writer *w, const Node__InfoResponse *i)
{
	json_w_key(w, "layers");
	json_w_array_begin(w);
	for (size_t n = 0; n < i->n_layers; n++) {
		const Node__LayerFill *l = i->layers[n];

		json_w_object_begin(w);
		json_w_kcstr(w, "indexKey", l->index_key);
		json_w_kcstr(w, "blob", l->blob);
		json_w_kbool(w, "lazy", l->lazy);
		json_w_kbool(w, "gzipIndex", l->gzip_index);
		json_w_ki64(w, "contentBytes", (int64_t)l->content_bytes);
		json_w_ki64(w, "presentBytes", (int64_t)l->present_bytes);
		json_w_kcstr(w, "error", l->error);
		json_w_kcstr(w, "verdict", l->verdict);
		json_w_kcstr(w, "verdictReason", l->verdict_reason);
		json_w_kcstr(w, "diffId", l->diff_id);
		json_w_key(w, "images");
		json_w_array_begin(w);
		for (size_t k = 0; k < l->n_images; k++)
			json_w_cstr(w, l->images[k]);
		json_w_array_end(w);
		json_w_object_end(w);
	}
	json_w_array_end(w);
}

static void print_info_json(const Node__InfoResponse *i)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_object_begin(&w);
	json_w_kcstr(&w, "version", i->version);
	json_w_ki64(&w, "pid", i->pid);
	json_w_kcstr(&w, "root", i->root);
	json_w_kcstr(&w, "state", i->state);
	json_w_kcstr(&w, "kernel", i->kernel);
	json_w_ki64(&w, "level", i->level);
	json_w_kcstr(&w, "levelReason", i->level_reason);
	json_w_key(&w, "contentfs");
	json_w_object_begin(&w);
	json_w_ki64(&w, "holderPid", i->contentfs_holder_pid);
	json_w_ki64(&w, "workerPid", i->contentfs_worker_pid);
	json_w_ki64(&w, "generation", (int64_t)i->contentfs_generation);
	json_w_ki64(&w, "fetchedBytes", (int64_t)i->fetched_bytes);
	json_w_ki64(&w, "demandRequests", (int64_t)i->demand_requests);
	json_w_ki64(&w, "backgroundRequests", (int64_t)i->background_requests);
	json_w_ki64(&w, "readErrors", (int64_t)i->read_errors);
	json_w_object_end(&w);
	write_layers(&w, i);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

int ctl_info_verb(struct ctl *c, int argc, char **argv)
{
	Node__InfoRequest req = NODE__INFO_REQUEST__INIT;
	AUTO(pb) Node__InfoResponse *rsp = NULL;
	struct err err = ERR_INIT;

	plain_args(c, "Shows how the daemon works on this machine, and how much of each layer is here.", argc, argv);
	if (ctl_connect(c, &err) < 0 ||
	    rpc_call(c->client, &node__node__descriptor, "Info", NULL, &req.base, &rsp, &err) < 0)
		return ctl_fail(c, &err);
	if (c->json)
		print_info_json(rsp);
	else
		print_info(rsp);
	return 0;
}

/* ---- df ---- */

static void print_usage(struct ctl *c, const Node__DiskUsageResponse *rsp, bool names)
{
	struct term_table t = {.columns = 5, .cells = VEC_INIT};
	char bytes[16], loose[16];

	term_row(&t, "KIND", "NUMBER", "SIZE", "UNREFERENCED", "SIZE");
	for (size_t i = 0; i < rsp->n_categories; i++) {
		const Node__Category *k = rsp->categories[i];

		term_row(&t, k->name, arena_printf(&c->arena, "%llu", (unsigned long long)k->count),
		         term_size((int64_t)k->bytes, bytes),
		         arena_printf(&c->arena, "%llu", (unsigned long long)k->unreferenced_count),
		         term_size((int64_t)k->unreferenced_bytes, loose));
	}
	term_table_print(&t);
	for (size_t i = 0; names && i < rsp->n_categories; i++)
		for (size_t n = 0; n < rsp->categories[i]->n_unreferenced; n++)
			printf("%s %s\n", rsp->categories[i]->name, rsp->categories[i]->unreferenced[n]);
}

static void print_usage_json(const Node__DiskUsageResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	for (size_t i = 0; i < rsp->n_categories; i++) {
		const Node__Category *k = rsp->categories[i];

		json_w_object_begin(&w);
		json_w_kcstr(&w, "kind", k->name);
		json_w_ki64(&w, "count", (int64_t)k->count);
		json_w_ki64(&w, "bytes", (int64_t)k->bytes);
		json_w_ki64(&w, "unreferencedCount", (int64_t)k->unreferenced_count);
		json_w_ki64(&w, "unreferencedBytes", (int64_t)k->unreferenced_bytes);
		json_w_key(&w, "unreferenced");
		json_w_array_begin(&w);
		for (size_t n = 0; n < k->n_unreferenced; n++)
			json_w_cstr(&w, k->unreferenced[n]);
		json_w_array_end(&w);
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static const struct argp_option DF_OPTIONS[] = {
    {"unreferenced", 'u', NULL, 0, "name what nothing refers to", 0},
    {0},
};

static error_t parse_df(int key, char *arg, struct argp_state *state)
{
	if (key == 'u')
		*(bool *)state->input = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "df takes no argument");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_df_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {DF_OPTIONS, parse_df, "",  "Shows disk use by kind, and what nothing refers to.",
	                    NULL,       NULL,     NULL};
	Node__DiskUsageRequest req = NODE__DISK_USAGE_REQUEST__INIT;
	AUTO(pb) Node__DiskUsageResponse *rsp = NULL;
	struct err err = ERR_INIT;
	bool names = false;

	ctl_parse(c, &argp, 0, argc, argv, &names);
	if (ctl_connect(c, &err) < 0 ||
	    rpc_call(c->client, &node__node__descriptor, "DiskUsage", NULL, &req.base, &rsp, &err) < 0)
		return ctl_fail(c, &err);
	if (c->json)
		print_usage_json(rsp);
	else
		print_usage(c, rsp, names);
	return 0;
}
