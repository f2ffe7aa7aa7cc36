/* Pins: which layers somebody wants kept and filled. One small JSON file each. */
#include "fusefs/store_internal.h"

#include "base/failpoint.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define PIN_BYTES_MAX (1u << 20)

static char *pin_file(const char *name, char dst[static 65])
{
	struct digest d;

	digest_of(name, strlen(name), &d);
	return digest_hex(&d, dst);
}

int ffs_pin_put(struct ffs_store *s, const char *name, const struct digest *keys, size_t n, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;
	char hex[65];

	if (strlen(name) > FFS_PIN_NAME_MAX || n > FFS_PIN_KEYS_MAX)
		return err_set(err, ERR_INVALID, "pin: name of at most %d bytes and %d keys", FFS_PIN_NAME_MAX,
		               FFS_PIN_KEYS_MAX);
	json_writer_init(&w, &text, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "name", name);
	json_w_key(&w, "keys");
	json_w_array_begin(&w);
	for (size_t i = 0; i < n; i++)
		json_w_cstr(&w, digest_hex(&keys[i], hex));
	json_w_array_end(&w);
	json_w_object_end(&w);
	FAILPOINT("pin");
	TRY_WRAP(file_write_atomic(s->dirs[FFS_DIR_PINS], pin_file(name, hex), buf_str(&text), 0600, err), err,
	         "pin %s", name);
	FAILPOINT("pinned");
	return 0;
}

int ffs_pin_remove(struct ffs_store *s, const char *name, struct err *err)
{
	char hex[65];

	if (unlinkat(s->dirs[FFS_DIR_PINS], pin_file(name, hex), 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove pin %s", name);
	return 0;
}

static int read_keys(struct json_reader *j, struct ffs_keys *out, struct err *err)
{
	int more;

	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		struct digest key;
		struct str hex;

		TRY(json_string(j, &hex, err));
		if (!digest_from_hex(hex, &key) || out->v.n >= FFS_PIN_KEYS_MAX)
			return err_set(err, ERR_DATA_LOSS, "bad key");
		vec_push(&out->v, key);
	}
	return more;
}

static int read_pin(struct ffs_store *s, const char *file, char **name, struct ffs_keys *keys, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(json_reader) struct json_reader *j = NULL;
	struct str key, value;
	int more;

	TRY(file_read(s->dirs[FFS_DIR_PINS], file, PIN_BYTES_MAX, &text, err));
	j = json_reader_new(buf_str(&text));
	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "name")) {
			TRY(json_string(j, &value, err));
			free(*name);
			*name = str_dup(value);
		} else if (str_eqc(key, "keys")) {
			TRY(read_keys(j, keys, err));
		} else {
			TRY(json_skip(j, err));
		}
	}
	TRY(more);
	return *name ? 0 : err_set(err, ERR_DATA_LOSS, "no name");
}

int ffs_pin_list(struct ffs_store *s,
                 int (*fn)(void *arg, const char *name, const struct digest *keys, size_t n, struct err *err),
                 void *arg, struct err *err)
{
	int fd = openat(s->dirs[FFS_DIR_PINS], ".", O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	int r = 0;

	if (!d)
		return err_errno(err, errno, "list pins/");
	while (r >= 0 && (e = readdir(d))) {
		AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
		AUTO_FREE char *name = NULL;
		struct err why = ERR_INIT;
		struct digest ignored;

		if (!digest_from_hex(str_of(e->d_name), &ignored))
			continue;
		if (read_pin(s, e->d_name, &name, &keys, &why) < 0)
			log_warn("pin file %s: %s", e->d_name, why.msg);
		else
			r = fn(arg, name, keys.v.p, keys.v.n, err);
	}
	closedir(d);
	return r;
}
