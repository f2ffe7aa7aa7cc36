/*
 * Configuration of contentd: defaults, then the file, then the command line. The file is TOML with the keys of the table
 * in config.c, which is also the source of `contentd config default` and docs/config.md. Read at start, constant then.
 */
#ifndef CONTENTD_CONFIG_H
#define CONTENTD_CONFIG_H

#include "base/log.h"
#include "base/vec.h"

#define CD_CONFIG_PATH "/etc/contentd/config.toml"

struct cd_config {
	char *root, *state; /* absolute */
	char *address;      /* the gRPC socket */
	char *log_level, *log_format;

	char *snapshotter_level;       /* auto, overlay, nested, tree */
	VEC(char *) snapshotter_names; /* all serve the same snapshots; the first one is the default */

	char *fetch_background; /* on, off, eager */
	int64_t fetch_background_quiet_ms;
	int64_t fetch_read_timeout_ms;
	char *fetch_certs_dir;

	bool keep_layer_blobs; /* of layers that were pulled whole */
	char *runtime_default; /* "io.containerd.runc.v2" */

	char *file; /* the file that was read, or NULL */
};

/* The defaults. */
void cd_config_init(struct cd_config *c);
void cd_config_fini(struct cd_config *c);
DEFINE_AUTO_FINI(cd_config);

/* Sets what a file says. Unknown keys, wrong types and wrong values are ERR_INVALID with "file:line". */
int cd_config_read(struct cd_config *c, const char *path, struct err *err);
/* The same from memory; `name` stands for the file in messages. */
int cd_config_parse(struct cd_config *c, const char *name, struct str text, struct err *err);

/* Fills in what follows from other values (the address from the state directory) and checks the whole. */
int cd_config_finish(struct cd_config *c, struct err *err);

/* The documented file with all defaults. */
void cd_config_print_default(struct buf *out);

#endif
