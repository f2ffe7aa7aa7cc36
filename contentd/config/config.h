/*
 * Configuration of contentd: defaults, then the file, then the command line. The file is TOML with the keys of
 * keys.h. Read at start; constant from then on, but for the keys that a reload takes again.
 */
#ifndef CONTENTD_CONFIG_CONFIG_H
#define CONTENTD_CONFIG_CONFIG_H

#include "base/log.h"
#include "base/vec.h"
#include "contentd/config/keys.h"

#define CD_CONFIG_PATH "/etc/contentd/config.toml"

struct cd_names {
	char **p;
	size_t n, cap;
};

struct cd_numbers {
	int64_t *p;
	size_t n, cap;
};

#define CD_CONFIG_TYPE_TEXT char *
#define CD_CONFIG_TYPE_PATH char *
#define CD_CONFIG_TYPE_NUMBER int64_t
#define CD_CONFIG_TYPE_REAL double
#define CD_CONFIG_TYPE_SWITCH bool
#define CD_CONFIG_TYPE_NAMES struct cd_names
#define CD_CONFIG_TYPE_HOSTS struct cd_names
#define CD_CONFIG_TYPE_NUMBERS struct cd_numbers

struct cd_config {
	/* One field a key. */
#define X(kind, field, ...) CD_CONFIG_TYPE_##kind field;
	CD_CONFIG_KEYS(X)
#undef X
	char *file; /* the file that was read, or NULL */
};

/* The defaults. */
void cd_config_init(struct cd_config *c);
void cd_config_fini(struct cd_config *c);
DEFINE_AUTO_FINI(cd_config);

/* *dst is overwritten. */
void cd_config_copy(struct cd_config *dst, const struct cd_config *src);

/* Sets what a file says. Unknown keys, wrong types and wrong values are ERR_INVALID with "file:line"; *mistakes (may be
 * NULL) gets all of them, one a line, `err` the first. */
int cd_config_read(struct cd_config *c, const char *path, struct buf *mistakes, struct err *err);
/* The same from memory; `name` stands for the file in messages. */
int cd_config_parse(struct cd_config *c, const char *name, struct str text, struct buf *mistakes, struct err *err);

/* Fills in what follows from other values (the address from the state directory) and checks the whole. */
int cd_config_finish(struct cd_config *c, struct err *err);

/* Takes over from `fresh` what a reload may change. Names of other keys that differ are appended to `ignored`, separated
 * by ", ". */
void cd_config_reload(struct cd_config *c, const struct cd_config *fresh, struct buf *ignored);

/* The documented file, with all defaults (c NULL) or with the values of c. */
void cd_config_print(const struct cd_config *c, struct buf *out);

/* The names of all keys, in order; NULL at the end. */
const char *cd_config_key(size_t i);
/* The default of a key as TOML. */
const char *cd_config_key_default(size_t i);

#endif
