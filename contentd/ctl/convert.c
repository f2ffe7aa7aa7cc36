/*
 * contentctl convert: hands over to content-convert, which needs no daemon but the registry client: linking that here
 * would cost every other verb its start-up time.
 */
#include "contentd/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>

#define PROGRAM "content-convert"

/* Beside us in a build tree, in ../libexec/contentd when installed. */
static int find(char **out, struct err *err)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return err_errno(err, errno, "read /proc/self/exe");
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	*out = xasprintf("%s/../libexec/contentd/" PROGRAM, self);
	if (access(*out, X_OK) == 0)
		return 0;
	free(*out);
	*out = xasprintf("%s/" PROGRAM, self);
	if (access(*out, X_OK) == 0)
		return 0;
	return err_errno(err, errno, "%s", *out);
}

int ctl_convert_verb(struct ctl *c, int argc, char **argv)
{
	AUTO_FREE char *program = NULL;
	struct err err = ERR_INIT;
	char **args = xcalloc((size_t)argc + 2, sizeof(*args));
	int n = 0;

	(void)argc;
	if (find(&program, &err) >= 0) {
		args[n++] = argv[0];
		if (c->json)
			args[n++] = (char *)"--json";
		for (int i = 1; argv[i]; i++)
			args[n++] = argv[i];
		execv(program, args);
		err_errno(&err, errno, "run %s", program);
	}
	free(args);
	return ctl_fail(c, &err);
}
