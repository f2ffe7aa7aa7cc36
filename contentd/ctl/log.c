/* contentctl log-level: the log of the running daemon, and of its contentfs. */
#include "contentd/ctl/ctl.h"
#include "rpc/proto/node.pb-c.h"

#include "base/json.h"

#include <stdio.h>

enum { OPT_FORMAT = 256 };

static const struct argp_option OPTIONS[] = {
    {"format", OPT_FORMAT, "text|json", 0, "change the format, too", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	Node__LogRequest *req = state->input;

	if (key == OPT_FORMAT)
		req->format = arg;
	else if (key == ARGP_KEY_ARG && !*req->level)
		req->level = arg;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "one level is enough");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static void print_json(const Node__LogResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "level", rsp->level);
	json_w_kcstr(&w, "format", rsp->format);
	json_w_object_end(&w);
	puts(buf_cstr(&b));
}

int ctl_log_level_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    OPTIONS,
	    parse,
	    "[LEVEL]",
	    "Shows how much the daemon and contentfs log, or changes it until the next start or reload.\v"
	    "LEVEL: error, warn, info, debug.",
	    NULL,
	    NULL,
	    NULL};
	Node__LogRequest req = NODE__LOG_REQUEST__INIT;
	AUTO(pb) Node__LogResponse *rsp = NULL;
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &req);
	if (ctl_connect(c, &err) < 0 ||
	    rpc_call(c->client, &node__node__descriptor, "Log", NULL, &req.base, &rsp, &err) < 0)
		return ctl_fail(c, &err);
	if (c->json)
		print_json(rsp);
	else
		printf("%s (%s)\n", rsp->level, rsp->format);
	return 0;
}
