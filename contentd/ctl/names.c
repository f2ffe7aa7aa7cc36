#include "contentd/ctl/ctl.h"

error_t ctl_take_names(int key, struct argp_state *state, struct ctl_names *names, const char *noun)
{
	if (key == ARGP_KEY_ARGS) {
		names->v = state->argv + state->next;
		names->n = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	}
	if (key == ARGP_KEY_NO_ARGS)
		argp_error(state, "which %s?", noun);
	return ARGP_ERR_UNKNOWN;
}

int ctl_each(struct ctl *c, const struct ctl_names *names, int (*fn)(void *arg, const char *name, struct err *err),
             void *arg)
{
	struct err err = ERR_INIT;
	int status = 0;

	if (ctl_connect(c, &err) < 0)
		return ctl_fail(c, &err);
	for (unsigned i = 0; i < names->n; i++) {
		err = ERR_INIT;
		if (fn(arg, names->v[i], &err) < 0)
			status = ctl_fail(c, &err);
	}
	return status;
}
