/* Program contentd: its command line. */
#include "base/failpoint.h"
#include "contentd/fsck/fsck.h"
#include "contentd/ops/serve.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *argp_program_version = "contentd " CONTENTD_VERSION;

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, FSCK_EXIT_USAGE = 16 };
enum { OPT_REPAIR = 512, OPT_CONTENTS, OPT_JSON };
enum { OPT_ROOT = 256, OPT_STATE, OPT_ADDRESS, OPT_CONFIG, OPT_LOG_LEVEL, OPT_LOG_FORMAT };

static const struct argp_option OPTIONS[] = {
    {"root", OPT_ROOT, "DIR", 0, "what survives a reboot (default /var/lib/contentd)", 0},
    {"state", OPT_STATE, "DIR", 0, "sockets and mounts (default /run/contentd)", 0},
    {"address", OPT_ADDRESS, "SOCKET", 0, "the gRPC socket (default contentd.sock in the state directory)", 0},
    {"config", OPT_CONFIG, "FILE", 0, "configuration (default " CD_CONFIG_PATH ", if it is there)", 0},
    {"log-level", OPT_LOG_LEVEL, "LEVEL", 0, "error, warn, info (default) or debug", 0},
    {"log-format", OPT_LOG_FORMAT, "FORMAT", 0, "text (default) or json", 0},
    {"repair", OPT_REPAIR, NULL, 0, "of fsck: repair what can be repaired", 2},
    {"contents", OPT_CONTENTS, NULL, 0, "of fsck: compare contents with digests, not only sizes", 2},
    {"json", OPT_JSON, NULL, 0, "of fsck: one JSON object a line", 2},
    {0},
};

struct options {
	const char *root, *state, *address, *config, *log_level, *log_format;
	const char *words[3]; /* "config", "check", FILE */
	unsigned n_words;
	bool repair, contents, json;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	enum log_level level;

	switch (key) {
	case OPT_ROOT:
		o->root = arg;
		return 0;
	case OPT_STATE:
		o->state = arg;
		return 0;
	case OPT_ADDRESS:
		o->address = arg;
		return 0;
	case OPT_CONFIG:
		o->config = arg;
		return 0;
	case OPT_LOG_LEVEL:
		if (!log_level_parse(arg, &level))
			argp_error(state, "unknown log level '%s'", arg);
		o->log_level = arg;
		return 0;
	case OPT_LOG_FORMAT:
		if (strcmp(arg, "text") && strcmp(arg, "json"))
			argp_error(state, "unknown log format '%s'", arg);
		o->log_format = arg;
		return 0;
	case OPT_REPAIR:
		o->repair = true;
		return 0;
	case OPT_CONTENTS:
		o->contents = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (o->n_words == ARRAY_LEN(o->words))
			argp_error(state, "unknown argument '%s'", arg);
		o->words[o->n_words++] = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* An option goes before the file; relative paths are from here. */
static void override(char **value, const char *option, bool is_path)
{
	AUTO_FREE char *cwd = NULL;

	if (!option)
		return;
	free(*value);
	if (is_path && option[0] != '/' && (cwd = getcwd(NULL, 0)))
		*value = xasprintf("%s/%s", cwd, option);
	else
		*value = xstrdup(option);
}

/* `mistakes` (may be NULL): all that the file has. */
static int load_config(struct cd_config *c, const struct options *o, struct buf *mistakes, struct err *err)
{
	cd_config_init(c);
	if (o->config)
		TRY(cd_config_read(c, o->config, mistakes, err));
	else if (access(CD_CONFIG_PATH, F_OK) == 0)
		TRY(cd_config_read(c, CD_CONFIG_PATH, mistakes, err));
	override(&c->root, o->root, true);
	override(&c->state, o->state, true);
	override(&c->address, o->address, true);
	override(&c->log_level, o->log_level, false);
	override(&c->log_format, o->log_format, false);
	return cd_config_finish(c, err);
}

static int load_again(struct cd_config *c, void *arg, struct err *err)
{
	return load_config(c, arg, NULL, err);
}

/* ---- contentd config ---- */

static int print_config(const struct cd_config *c)
{
	AUTO(buf) struct buf text = BUF_INIT;

	cd_config_print(c, &text);
	fwrite(text.p, 1, text.n, stdout);
	return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

static int check_config(struct options *o)
{
	AUTO(cd_config) struct cd_config config = {0};
	AUTO(buf) struct buf mistakes = BUF_INIT;
	struct err err = ERR_INIT;

	if (load_config(&config, o, &mistakes, &err) >= 0)
		return EXIT_OK;
	if (mistakes.n)
		fputs(buf_cstr(&mistakes), stderr);
	else
		fprintf(stderr, "%s\n", err.msg);
	return EXIT_USAGE;
}

static int dump_config(struct options *o)
{
	AUTO(cd_config) struct cd_config config = {0};
	struct err err = ERR_INIT;

	if (load_config(&config, o, NULL, &err) >= 0)
		return print_config(&config);
	fprintf(stderr, "%s\n", err.msg);
	return EXIT_USAGE;
}

/* ---- contentd fsck ---- */

static int check_root(struct options *o)
{
	AUTO(cd_config) struct cd_config config = {0};
	struct err err = ERR_INIT;

	if (load_config(&config, o, NULL, &err) >= 0)
		return cd_fsck_main(config.root, config.state, o->repair, o->contents, o->json);
	fprintf(stderr, "contentd: %s\n", err.msg);
	return FSCK_EXIT_USAGE;
}

/* What the words of the command line ask for instead of serving. */
static int command(struct options *o)
{
	const char *verb = o->n_words > 1 ? o->words[1] : "";

	if (!strcmp(o->words[0], "config")) {
		if (!strcmp(verb, "default") && o->n_words == 2)
			return print_config(NULL);
		if (!strcmp(verb, "dump") && o->n_words == 2)
			return dump_config(o);
		if (!strcmp(verb, "check")) {
			o->config = o->n_words == 3 ? o->words[2] : o->config;
			return check_config(o);
		}
	}
	if (!strcmp(o->words[0], "fsck") && o->n_words == 1)
		return check_root(o);
	fprintf(stderr, "contentd: unknown command '%s%s%s'; see contentd --help\n", o->words[0], *verb ? " " : "",
	        verb);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {OPTIONS,
	                                 parse_option,
	                                 "\nconfig default\nconfig check [FILE]\nconfig dump\nfsck",
	                                 "contentd, a containerd-compatible daemon with lazy images.\v"
	                                 "config default prints the configuration with all defaults, config dump the\n"
	                                 "one in force, config check all mistakes of a file. fsck checks the\n"
	                                 "root directory of a daemon that does not run.",
	                                 NULL,
	                                 NULL,
	                                 NULL};
	AUTO(cd_config) struct cd_config config = {0};
	struct options options = {0};
	const struct cd_config_source source = {load_again, &options};
	struct err err = ERR_INIT;

	failpoint_init();
	argp_err_exit_status = argc > 1 && !strcmp(argv[1], "fsck") ? FSCK_EXIT_USAGE : EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (options.n_words)
		return command(&options);
	log_init("contentd", LOG_INFO, false);
	if (load_config(&config, &options, NULL, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (cd_log_apply(&config, &err) < 0 || cd_serve(&config, &source, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}
