#include "tests/chaos/chaos.h"

#include "base/unix.h"
#include "rpc/proto/images.pb-c.h"

#include <fcntl.h>

/* The exit status of a pull; its output goes to a log. */
static int pull(struct chaos *c, const char *image)
{
	const char *const argv[] = {c->contentctl, "--address", c->address, "--namespace", c->ns, "pull", image, NULL};
	AUTO_FREE char *path = xasprintf("%s/pull.log", c->dir);
	AUTO_FD int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int status = -1;
	pid_t pid;

	if (spawn_start(&(struct spawn){.argv = argv, .stdio = {-1, log, log}}, &pid, NULL) < 0 ||
	    spawn_wait(pid, &status, NULL) < 0)
		return -1;
	return status;
}

int images_pull(struct chaos *c, const char *image)
{
	int64_t until = clock_mono_ns() + PATIENCE_NS;

	while (pull(c, image) != 0) {
		if (clock_mono_ns() > until) {
			chaos_fail(c, "pulling %s does not succeed", image);
			return -1;
		}
		usleep(20000);
	}
	return 0;
}

void images_remove(struct peer *p, const char *image, bool collect)
{
	Images__DeleteImageRequest req = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	struct err err = ERR_INIT;

	req.name = image;
	req.sync = collect;
	if (peer_call(p, &images__images__descriptor, "Delete", &req.base, NULL, NULL, &err) >= 0)
		atomic_fetch_add(&p->chaos->removals, 1);
	else if (err.code != ERR_NOT_FOUND)
		chaos_fail(p->chaos, "remove image %s: %s", image, err.msg);
}

void *images_remover(void *chaos)
{
	struct chaos *c = chaos;
	struct dice dice = dice_make(c->seed, 2);
	struct peer p;

	peer_init(&p, c);
	while (!atomic_load(&c->ending)) {
		dice_sleep(&dice, 300, 1500);
		images_remove(&p, c->images[dice_below(&dice, c->n_images)], dice_below(&dice, 2));
	}
	peer_fini(&p);
	return NULL;
}
