/* contentctl: global options, the table of verbs, and how a verb is found. */
#include "contentd/ctl/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_ADDRESS "/run/contentd/contentd.sock"
#define DEFAULT_NAMESPACE "default"

static const struct ctl_verb VERBS[] = {
    {"pull", "IMAGE", "fetch an image, lazily where it allows", ctl_pull_verb},
    {"push", "IMAGE [TARGET]", "send an image to a registry", ctl_push_verb},
    {"tag", "IMAGE NAME...", "give an image further names", ctl_tag_verb},
    {"import", "FILE", "store the images of an archive (load)", ctl_import_verb},
    {"export", "FILE IMAGE...", "write images to an archive (save)", ctl_export_verb},
    {"run", "IMAGE [CMD...]", "run a program in a new container", ctl_run_verb},
    {"images", "", "list images", ctl_images_verb},
    {"rmi", "IMAGE...", "remove images", ctl_rmi_verb},
    {"usage", "IMAGE...", "what the unpacked layers of images hold", ctl_usage_verb},
    {"mount", "IMAGE DIR", "mount an image's files", ctl_mount_verb},
    {"unmount", "DIR...", "unmount what mount has mounted", ctl_unmount_verb},
    {"ps", "", "list containers", ctl_ps_verb},
    {"exec", "CONTAINER CMD...", "run another program in a container", ctl_exec_verb},
    {"attach", "CONTAINER", "see and type what goes on in a container", ctl_attach_verb},
    {"kill", "CONTAINER...", "send a signal to containers", ctl_kill_verb},
    {"pause", "CONTAINER...", "stop containers for a while", ctl_pause_verb},
    {"resume", "CONTAINER...", "let paused containers go on", ctl_resume_verb},
    {"stats", "[CONTAINER...]", "what running containers use", ctl_stats_verb},
    {"update", "CONTAINER...", "change the limits of running containers", ctl_update_verb},
    {"rm", "CONTAINER...", "remove containers", ctl_rm_verb},
    {"logs", "CONTAINER", "print what a detached container wrote", ctl_logs_verb},
    {"content", "VERB [ARGS...]", "blobs: list, read, write, label, verify", ctl_content_verb},
    {"convert", "SRC DST", "turn an image into a lazy one (no daemon needed)", ctl_convert_verb},
    {"info", "", "how the daemon works on this machine", ctl_info_verb},
    {"df", "", "disk use, and what nothing refers to", ctl_df_verb},
    {"fsck", "[--repair]", "check the root directory of a stopped daemon", ctl_fsck_verb},
    {"log-level", "[LEVEL]", "show or change what the daemon logs", ctl_log_level_verb},
    {"gc", "", "remove what nothing refers to, now", ctl_gc_verb},
    {"why", "NAME", "what keeps a thing from being removed", ctl_why_verb},
    {"version", "", "versions of client and daemon", ctl_version_verb},
};

const char *argp_program_bug_address = NULL;

static void print_version(FILE *out, struct argp_state *state)
{
	fprintf(out, "contentctl %s\n", CONTENTD_VERSION);
}

void (*argp_program_version_hook)(FILE *, struct argp_state *) = print_version;

static const struct argp_option OPTIONS[] = {
    {"address", 'a', "SOCKET", 0, "socket of contentd (" DEFAULT_ADDRESS ", or $CONTENTD_ADDRESS)", 0},
    {"namespace", 'n', "NAME", 0, "namespace (" DEFAULT_NAMESPACE ", or $CONTENTD_NAMESPACE)", 0},
    {"json", 'j', NULL, 0, "print JSON", 0},
    {0},
};

struct args {
	struct ctl *c;
	int verb_at;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case 'a':
		a->c->address = arg;
		return 0;
	case 'n':
		a->c->ns = arg;
		return 0;
	case 'j':
		a->c->json = true;
		return 0;
	case ARGP_KEY_ARG:
		a->verb_at = state->next - 1;
		state->next = state->argc; /* the rest is the verb's */
		return 0;
	case ARGP_KEY_END:
		if (!a->verb_at)
			argp_state_help(state, stderr, ARGP_HELP_STD_HELP);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static char *help_text(void)
{
	AUTO(buf) struct buf b = BUF_INIT;

	buf_adds(&b, "Pulls images and runs containers with contentd.\v");
	buf_adds(&b, "Verbs:\n");
	for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
		buf_addf(&b, "  %-8s %-17s %s\n", VERBS[i].name, VERBS[i].args, VERBS[i].help);
	buf_adds(&b, "\n`contentctl VERB --help` tells more of each.");
	return buf_steal(&b);
}

int ctl_connect(struct ctl *c, struct err *err)
{
	if (c->client)
		return 0;
	TRY_WRAP(rpc_client_connect(c->address, &c->client, err), err, "contentd at %s", c->address);
	rpc_client_set_metadata(c->client, "containerd-namespace", c->ns);
	return 0;
}

int ctl_fail(const struct ctl *c, const struct err *err)
{
	fflush(stdout);
	fprintf(stderr, "%s: %s\n", c->program, err->msg);
	return CTL_EXIT_FAILED;
}

int ctl_usage(const char *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "contentctl %s: ", verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry `contentctl %s --help'.\n", verb);
	return CTL_EXIT_USAGE;
}

/* ---- options that every verb takes too, after its name ---- */

enum { OPT_ADDRESS = 0x1000, OPT_NAMESPACE, OPT_JSON };

static const struct argp_option COMMON_OPTIONS[] = {
    {"address", OPT_ADDRESS, "SOCKET", 0, "socket of contentd", 0},
    {"namespace", OPT_NAMESPACE, "NAME", 0, "namespace", 0},
    {"json", OPT_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	struct ctl *c = state->input;

	switch (key) {
	case OPT_ADDRESS:
		c->address = arg;
		return 0;
	case OPT_NAMESPACE:
		c->ns = arg;
		return 0;
	case OPT_JSON:
		c->json = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

struct inputs {
	void *verb;
	struct ctl *c;
};

static error_t hand_down(int key, char *arg, struct argp_state *state)
{
	struct inputs *in = state->input;

	(void)arg;
	if (key != ARGP_KEY_INIT)
		return ARGP_ERR_UNKNOWN;
	state->child_inputs[0] = in->verb;
	state->child_inputs[1] = in->c;
	return 0;
}

void ctl_parse(struct ctl *c, const struct argp *verb, unsigned flags, int argc, char **argv, void *input)
{
	static const struct argp common = {.options = COMMON_OPTIONS, .parser = parse_common};
	struct argp own = *verb; /* its texts are the whole's */
	const struct argp_child children[] = {{&own, 0, NULL, 0}, {&common, 0, "For every verb:", 1}, {0}};
	struct argp whole = {.parser = hand_down, .args_doc = verb->args_doc, .doc = verb->doc, .children = children};
	struct inputs in = {input, c};

	own.args_doc = own.doc = NULL;
	argp_parse(&whole, argc, argv, flags, NULL, &in);
}

/* As docker and podman call them. */
static const struct {
	const char *alias, *name;
} ALIASES[] = {{"load", "import"}, {"save", "export"}, {"umount", "unmount"}};

static const struct ctl_verb *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(ALIASES); i++)
		if (!strcmp(ALIASES[i].alias, name))
			name = ALIASES[i].name;
	for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
		if (!strcmp(VERBS[i].name, name))
			return &VERBS[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct ctl c = {.program = "contentctl", .started_ns = clock_mono_ns()};
	AUTO_FREE char *doc = help_text();
	AUTO_FREE char *verb_name = NULL;
	struct argp argp = {.options = OPTIONS, .parser = parse, .args_doc = "VERB [ARGS...]", .doc = doc};
	struct args args = {.c = &c};
	const struct ctl_verb *verb;
	int status;

	c.address = getenv("CONTENTD_ADDRESS") ?: DEFAULT_ADDRESS;
	c.ns = getenv("CONTENTD_NAMESPACE") ?: DEFAULT_NAMESPACE;
	c.tty = isatty(STDERR_FILENO);
	argp_err_exit_status = CTL_EXIT_USAGE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &args);
	verb = find(argv[args.verb_at]);
	if (!verb) {
		fprintf(stderr, "contentctl: there is no verb '%s'\nTry `contentctl --help'.\n", argv[args.verb_at]);
		return CTL_EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	arena_init(&c.arena, 256u << 20);
	verb_name = xasprintf("contentctl %s", verb->name);
	argv[args.verb_at] = verb_name;
	status = verb->run(&c, argc - args.verb_at, argv + args.verb_at);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "contentctl: write to standard output: %s\n", strerror(errno));
		status = status ?: CTL_EXIT_FAILED;
	}
	rpc_client_free(c.client);
	arena_fini(&c.arena);
	return status;
}
