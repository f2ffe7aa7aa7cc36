/*
 * One Transfer call of the daemon, beside streams of our own: one on which the daemon asks for credentials, one on which
 * it reports progress, one for the bytes of an archive (containerd's Streaming service). Ctrl-C ends contentctl and with
 * it the call: the daemon cleans up, and an output file that is not whole was never there. Single-threaded.
 */
#ifndef CTL_TRANSFER_H
#define CTL_TRANSFER_H

#include "contentd/ctl/image.h"
#include "contentd/ctl/term.h"

#include "rpc/proto/xfer.pb-c.h"

struct ctl_transfer {
	struct ctl *c;
	const char *creds;         /* USER:PASSWORD, or NULL: those of `docker login` */
	struct image_times *times; /* NULL: nobody wants to know */
	int in_fd, out_fd;         /* -1, or where the bytes of an archive come from, or go to */
	const char *auth_id, *progress_id, *bytes_id;
	struct rpc_stream *auth, *progress, *bytes, *transfer;
	struct term_progress bars;
	int64_t credit;     /* bytes that may be sent, or that the daemon may still send */
	int64_t moved;      /* bytes of the archive so far */
	bool at_end;        /* of the archive */
	VEC(char *) saved;  /* names of images that were stored */
	struct arena frame; /* the archive's current piece */
};

void ctl_transfer_init(struct ctl_transfer *t, struct ctl *c);
void ctl_transfer_fini(struct ctl_transfer *t);
DEFINE_AUTO_FINI(ctl_transfer);

/* Opens streams of which the request carries the names: t->progress_id always, t->auth_id and t->bytes_id if wanted. */
int ctl_transfer_open(struct ctl_transfer *t, bool auth, bool bytes, struct err *err);

/* Runs it to its end. */
int ctl_transfer_run(struct ctl_transfer *t, const ProtobufCMessage *source, const ProtobufCMessage *destination,
                     struct err *err);

/* "os/architecture[/variant]" as a message in the arena. */
int ctl_platform(struct ctl *c, const char *text, Types__Platform **out, struct err *err);
/* This machine's. */
Types__Platform *ctl_platform_own(struct ctl *c);

/* A list of platforms on the command line: --platform, again and again, and --all-platforms. */
struct ctl_platforms {
	VEC(const char *) names;
	bool all;
};
#define CTL_PLATFORM_OPTIONS                                                                                            \
	{                                                                                                               \
	    "platform", 'p', "OS/ARCH[/VARIANT]", 0, "for this platform (may be given again; default: this machine's)", \
	    0},                                                                                                         \
	{                                                                                                               \
		"all-platforms", 'A', NULL, 0, "for all platforms of the image", 0                                      \
	}
/* True when the option was one of those. */
bool ctl_platforms_parse(struct ctl_platforms *p, int key, char *arg);
/* In the arena; none with --all-platforms. */
int ctl_platforms_list(struct ctl *c, const struct ctl_platforms *p, Types__Platform ***out, size_t *n,
                       struct err *err);

#endif
