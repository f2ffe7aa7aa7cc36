/*
 * contentctl fsck: hands over to `contentd fsck`, which has the database and the formats: linking those here would cost
 * every other verb its start-up time.
 */
#include "contentd/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>

/* Beside us, in a build tree and when installed. */
static int find(char **out, struct err *err)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_errno(err, errno, "read /proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	*out = xasprintf("%s/contentd", self);
	return access(*out, X_OK) == 0 ? 0 : err_errno(err, errno, "%s", *out);
}

int ctl_fsck_verb(struct ctl *c, int argc, char **argv)
{
	AUTO_FREE char **args = xcalloc((size_t)argc + 4, sizeof(*args));
	AUTO_FREE char *program = NULL;
	struct err err = ERR_INIT;
	int n = 0;

	if (find(&program, &err) >= 0) {
		args[n++] = argv[0];
		args[n++] = (char *)"fsck";
		if (c->json)
			args[n++] = (char *)"--json";
		for (int i = 1; argv[i]; i++)
			args[n++] = argv[i];
		execv(program, args);
		err_errno(&err, errno, "run %s", program);
	}
	return ctl_fail(c, &err);
}
