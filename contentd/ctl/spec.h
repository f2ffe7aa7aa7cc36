/*
 * The OCI runtime configuration of a container, made from an image configuration and the command line. Pure: JSON in,
 * JSON out; names of users were resolved before.
 */
#ifndef CTL_SPEC_H
#define CTL_SPEC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

/* What a program is started with. */
struct spec_process {
	VEC(char *) args, env;
	char *cwd;
	char *user; /* as in the image: "", "name", "uid", "name:group" ... */
	uint32_t uid, gid;
	VEC(uint32_t) groups;
	bool terminal;
};
#define SPEC_PROCESS_INIT ((struct spec_process){.args = VEC_INIT})
void spec_process_fini(struct spec_process *p);
DEFINE_AUTO_FINI(spec_process);

/* Entrypoint, Cmd, Env, WorkingDir and User of an image configuration (OCI image-spec config.md); `args` given on the
 * command line replace Cmd, and `entrypoint` (may be NULL) replaces both. No program at all: ERR_INVALID. */
int spec_process_from_image(struct str config, const char *entrypoint, char *const *args, unsigned n_args,
                            struct spec_process *out, struct err *err);

/* Takes process out of a runtime configuration made by spec_write, for exec: args are replaced. */
int spec_process_from_spec(struct str spec, char *const *args, unsigned n_args, struct spec_process *out,
                           struct err *err);

struct spec_opts {
	const char *id, *ns;
	bool host_network;
};

/* Appends the whole configuration. */
void spec_write(const struct spec_opts *opts, const struct spec_process *p, struct buf *out);

/* Appends the process object alone (exec). */
void spec_write_process(const struct spec_process *p, struct buf *out);

/* Resolves p->user with the passwd and group files below `root` (a mounted root file system; symbolic links do not lead
 * outside). Numbers need no files. ERR_NOT_FOUND naming the user. */
int spec_resolve_user(struct spec_process *p, const char *root, struct err *err);

/* True when resolving needs the files: a name, or a number without a group. */
bool spec_user_needs_files(const struct spec_process *p);

#endif
