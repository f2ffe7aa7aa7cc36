/* Input: the configuration of an image, its passwd, and its group file, each up to a NUL byte. What a container is started with
 * is read again from its runtime configuration as it was written there. */
#include "contentd/ctl/spec.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char root[] = "/dev/shm/fuzz-spec-XXXXXX"; /* where writing is cheap */

static void must(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static void remove_root(void)
{
	AUTO_FD int parent = open("/dev/shm", O_PATH | O_DIRECTORY | O_CLOEXEC);

	dir_remove(parent, strrchr(root, '/') + 1, NULL);
}

static void make_root(void)
{
	static bool made;
	AUTO_FREE char *etc = NULL;

	if (made)
		return;
	must(mkdtemp(root) != NULL);
	atexit(remove_root);
	etc = xasprintf("%s/etc", root);
	must(mkdir(etc, 0700) == 0);
	made = true;
}

static void put_file(const char *name, struct str bytes)
{
	AUTO_FREE char *path = xasprintf("%s/etc/%s", root, name);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && fd_write_all(fd, bytes, NULL) == 0);
}

static struct str next(struct str *rest)
{
	struct str part = STR_NONE;

	str_split(rest, '\0', &part);
	return part;
}

static void check_written(const struct spec_process *p)
{
	const struct spec_opts opts = {.id = "id", .ns = "ns"};
	AUTO(spec_process) struct spec_process again = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf text = BUF_INIT;

	spec_write(&opts, p, &text);
	must(spec_process_from_spec(buf_str(&text), p->args.p, (unsigned)p->args.n, &again, NULL) >= 0);
	must(strcmp(again.cwd, p->cwd) == 0 && again.uid == p->uid && again.gid == p->gid);
	must(again.groups.n == p->groups.n && again.env.n == p->env.n);
	for (size_t i = 0; i < p->env.n; i++)
		must(strcmp(again.env.p[i], p->env.p[i]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	struct str rest = str_make(data, n), config = next(&rest);

	if (spec_process_from_image(config, NULL, NULL, 0, &p, NULL) < 0)
		return 0;
	if (spec_user_needs_files(&p)) {
		make_root();
		put_file("passwd", next(&rest));
		put_file("group", rest);
	}
	if (spec_resolve_user(&p, spec_user_needs_files(&p) ? root : NULL, NULL) < 0)
		return 0;
	check_written(&p);
	return 0;
}
