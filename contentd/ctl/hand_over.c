#include "base/unix.h"
#include "contentd/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>

static int find(const char *const *places, char **out, struct err *err)
{
	AUTO_FREE char *dir = NULL;

	TRY(program_path(&dir, err));
	*strrchr(dir, '/') = '\0';
	for (size_t i = 0;; i++) {
		AUTO_FREE char *program = xasprintf("%s/%s", dir, places[i]);

		if (access(program, X_OK) < 0) {
			if (!places[i + 1])
				return err_errno(err, errno, "%s", program);
			continue;
		}
		*out = STEAL(program);
		return 0;
	}
}

int ctl_hand_over(struct ctl *c, const char *const *places, const char *verb, int argc, char **argv)
{
	AUTO_FREE char **args = xcalloc((size_t)argc + 3, sizeof(*args));
	AUTO_FREE char *program = NULL;
	struct err err = ERR_INIT;
	int n = 0;

	if (find(places, &program, &err) < 0)
		return ctl_fail(c, &err);
	args[n++] = argv[0];
	if (verb)
		args[n++] = (char *)verb;
	if (c->json)
		args[n++] = (char *)"--json";
	for (int i = 1; i < argc; i++)
		args[n++] = argv[i];
	execv(program, args);
	err_errno(&err, errno, "run %s", program);
	return ctl_fail(c, &err);
}
