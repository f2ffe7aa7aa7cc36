/* contentctl pull, push, tag: images between registries and the daemon. */
#include "contentd/ctl/transfer.h"

#include <stdio.h>

/* ---- pull ---- */

struct pull {
	const char *image, *lazy, *creds;
	struct ctl_platforms platforms;
};

static int pull_as(struct ctl *c, const char *full_name, const struct pull *a, struct image_times *times,
                   struct err *err)
{
	AUTO(ctl_transfer) struct ctl_transfer t;
	Xfer__OCIRegistry source = XFER__OCIREGISTRY__INIT;
	Xfer__RegistryResolver resolver = XFER__REGISTRY_RESOLVER__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	Xfer__UnpackConfiguration unpack = XFER__UNPACK_CONFIGURATION__INIT, *unpacks[] = {&unpack};
	Kv__Entry *labels[] = {pb_kv_new(&c->arena, "contentd.io/lazy", a->lazy)};
	int64_t begun = clock_mono_ns();

	ctl_transfer_init(&t, c);
	t.creds = a->creds;
	t.times = times;
	TRY(ctl_transfer_open(&t, true, false, err));
	resolver.auth_stream = t.auth_id;
	source.reference = full_name;
	source.resolver = &resolver;
	store.name = full_name;
	store.labels = labels;
	store.n_labels = 1;
	TRY(ctl_platforms_list(c, &a->platforms, &store.platforms, &store.n_platforms, err));
	/* Unpacked is the one that can run: this machine's, or the one that was asked for. */
	unpack.snapshotter = CTL_SNAPSHOTTER;
	unpack.platform = store.n_platforms ? store.platforms[0] : ctl_platform_own(c);
	store.unpacks = unpacks;
	store.n_unpacks = 1;
	TRY(ctl_transfer_run(&t, &source.base, &store.base, err));
	if (times)
		times->total_ns = clock_mono_ns() - begun;
	return 0;
}

int image_pull(struct ctl *c, const char *full_name, const char *lazy, struct image_times *times, struct err *err)
{
	return pull_as(c, full_name, &(struct pull){.lazy = lazy}, times, err);
}

static const struct argp_option PULL_OPTIONS[] = {
    {"lazy", 'l', "auto|off", 0, "fetch contents on demand where the image allows (auto), or all of it now (off)", 0},
    {"creds", 'u', "USER:PASSWORD", 0, "credentials (default: those of `docker login')", 0},
    CTL_PLATFORM_OPTIONS,
    {0},
};

static error_t parse_pull(int key, char *arg, struct argp_state *state)
{
	struct pull *a = state->input;

	if (ctl_platforms_parse(&a->platforms, key, arg))
		return 0;
	switch (key) {
	case 'l':
		if (strcmp(arg, "auto") != 0 && strcmp(arg, "off") != 0)
			argp_error(state, "--lazy takes auto or off, not '%s'", arg);
		a->lazy = arg;
		return 0;
	case 'u':
		a->creds = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->image)
			argp_error(state, "one image at a time");
		a->image = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which image?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int run_pull(struct ctl *c, const struct pull *a, struct err *err)
{
	struct image_times times = {0};
	const char *name;

	TRY(image_name(c, a->image, &name, err));
	TRY(ctl_connect(c, err));
	TRY(pull_as(c, name, a, &times, err));
	if (c->json)
		printf("{\"name\":\"%s\",\"ms\":%.1f}\n", name, (double)times.total_ns / NS_PER_MS);
	else
		printf("%s\n", name);
	return 0;
}

int ctl_pull_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {PULL_OPTIONS, parse_pull, "IMAGE", "Fetches an image through the daemon.",
	                    NULL,         NULL,       NULL};
	struct pull a = {.lazy = "auto"};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return run_pull(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- push ---- */

struct push {
	const char *image, *target, *creds;
	struct ctl_platforms platforms;
};

static const struct argp_option PUSH_OPTIONS[] = {
    {"creds", 'u', "USER:PASSWORD", 0, "credentials (default: those of `docker login')", 0},
    {"platform", 'p', "OS/ARCH[/VARIANT]", 0, "only this platform (may be given again; default: all of the image)", 0},
    {0},
};

static error_t parse_push(int key, char *arg, struct argp_state *state)
{
	struct push *a = state->input;

	switch (key) {
	case 'u':
		a->creds = arg;
		return 0;
	case 'p':
		vec_push(&a->platforms.names, (const char *)arg);
		return 0;
	case ARGP_KEY_ARG:
		if (a->target)
			argp_error(state, "one image at a time");
		*(a->image ? &a->target : &a->image) = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which image?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int run_push(struct ctl *c, const struct push *a, struct err *err)
{
	AUTO(ctl_transfer) struct ctl_transfer t;
	Xfer__OCIRegistry destination = XFER__OCIREGISTRY__INIT;
	Xfer__RegistryResolver resolver = XFER__REGISTRY_RESOLVER__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	const char *name, *target;

	ctl_transfer_init(&t, c);
	TRY(image_name(c, a->image, &name, err));
	TRY(image_name(c, a->target ?: a->image, &target, err));
	TRY(ctl_connect(c, err));
	t.creds = a->creds;
	TRY(ctl_transfer_open(&t, true, false, err));
	resolver.auth_stream = t.auth_id;
	destination.reference = target;
	destination.resolver = &resolver;
	store.name = name;
	if (a->platforms.names.n)
		TRY(ctl_platforms_list(c, &a->platforms, &store.platforms, &store.n_platforms, err));
	TRY(ctl_transfer_run(&t, &store.base, &destination.base, err));
	if (c->json)
		printf("{\"name\":\"%s\"}\n", target);
	else
		printf("%s\n", target);
	return 0;
}

int ctl_push_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    PUSH_OPTIONS,
	    parse_push,
	    "IMAGE [TARGET]",
	    "Sends an image to a registry, under its own name or as TARGET. What the registry has is not "
	    "sent again, and what another of its repositories has is mounted.",
	    NULL,
	    NULL,
	    NULL};
	struct push a = {0};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	r = run_push(c, &a, &err);
	vec_fini(&a.platforms.names);
	return r < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- tag ---- */

struct tag {
	char **names;
	unsigned n;
};

static error_t parse_tag(int key, char *arg, struct argp_state *state)
{
	struct tag *a = state->input;

	if (key == ARGP_KEY_ARGS) {
		a->names = state->argv + state->next;
		a->n = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	}
	if (key == ARGP_KEY_END && a->n < 2)
		argp_error(state, "which image, and as what?");
	return key == ARGP_KEY_END || key == ARGP_KEY_NO_ARGS ? 0 : ARGP_ERR_UNKNOWN;
}

static int run_tag(struct ctl *c, const struct tag *a, struct err *err)
{
	AUTO(ctl_transfer) struct ctl_transfer t;
	Xfer__ImageStore from = XFER__IMAGE_STORE__INIT, to = XFER__IMAGE_STORE__INIT;

	ctl_transfer_init(&t, c);
	TRY(image_name(c, a->names[0], &from.name, err));
	TRY(ctl_connect(c, err));
	TRY(ctl_transfer_open(&t, false, false, err));
	to.n_extra_references = a->n - 1;
	to.extra_references = arena_zalloc(&c->arena, a->n, sizeof(*to.extra_references));
	for (unsigned i = 1; i < a->n; i++) {
		to.extra_references[i - 1] = pb_new(&c->arena, &xfer__image_reference__descriptor);
		TRY(image_name(c, a->names[i], &to.extra_references[i - 1]->name, err));
	}
	TRY(ctl_transfer_run(&t, &from.base, &to.base, err));
	vec_each(&t.saved, name)
		printf("%s\n", *name);
	return 0;
}

int ctl_tag_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse_tag, "IMAGE NAME...", "Gives an image further names.", NULL, NULL, NULL};
	struct tag a = {0};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	return run_tag(c, &a, &err) < 0 ? ctl_fail(c, &err) : 0;
}
