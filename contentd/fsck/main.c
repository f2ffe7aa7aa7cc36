/* `contentd fsck`: what is found, as lines or as JSON, and the exit status of fsck(8). */
#include "contentd/fsck/fsck.h"

#include "base/json.h"

#include <stdio.h>

enum { STATUS_CLEAN = 0, STATUS_REPAIRED = 1, STATUS_LEFT = 4, STATUS_FAILED = 8 };

static void print_finding(void *arg, const struct cd_finding *f)
{
	printf("%s %s: %s", f->area, f->name, f->problem);
	if (f->failure)
		printf("; the repair failed: %s\n", f->failure);
	else if (f->repaired)
		printf("; repaired: %s\n", f->remedy);
	else
		printf("; %s%s\n", f->remedy ? "a repair: " : "cannot be repaired", f->remedy ?: "");
}

static void print_json(void *arg, const struct cd_finding *f)
{
	AUTO(buf) struct buf line = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &line, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "area", f->area);
	json_w_kcstr(&w, "name", f->name);
	json_w_kcstr(&w, "problem", f->problem);
	if (f->remedy)
		json_w_kcstr(&w, "remedy", f->remedy);
	if (f->failure)
		json_w_kcstr(&w, "failure", f->failure);
	json_w_key(&w, "repaired");
	json_w_bool(&w, f->repaired);
	json_w_object_end(&w);
	puts(buf_cstr(&line));
}

static void print_result(const struct cd_fsck_result *r, const char *root)
{
	printf("%s: %llu records, %llu snapshots, %llu blobs, %llu ingests, %llu layer indexes, %llu objects, "
	       "%llu partial files: ",
	       root, r->records, r->snapshots, r->blobs, r->ingests, r->indexes, r->objects, r->partials);
	if (!r->found)
		printf("nothing is wrong\n");
	else
		printf("%u wrong, %u repaired\n", r->found, r->repaired);
}

static void print_result_json(const struct cd_fsck_result *r)
{
	printf("{\"found\":%u,\"repaired\":%u,\"records\":%llu,\"snapshots\":%llu,\"blobs\":%llu,\"ingests\":%llu,"
	       "\"indexes\":%llu,\"objects\":%llu,\"partials\":%llu}\n",
	       r->found, r->repaired, r->records, r->snapshots, r->blobs, r->ingests, r->indexes, r->objects,
	       r->partials);
}

int cd_fsck_main(const char *root, const char *state, bool repair, bool contents, bool json)
{
	struct cd_fsck_opts opts = {.root = root,
	                            .state = state,
	                            .repair = repair,
	                            .contents = contents,
	                            .found = json ? print_json : print_finding};
	struct err err = ERR_INIT;
	struct cd_fsck_result r;

	if (cd_fsck(&opts, &r, &err) < 0) {
		fflush(stdout);
		fprintf(stderr, "contentd fsck: %s\n", err.msg);
		return STATUS_FAILED;
	}
	if (json)
		print_result_json(&r);
	else
		print_result(&r, root);
	if (!r.found)
		return STATUS_CLEAN;
	return r.repaired == r.found ? STATUS_REPAIRED : STATUS_LEFT;
}
