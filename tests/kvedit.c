/*
 * Reads and changes the table of a contentd that does not run: what tests of damage need.
 *
 *	kvedit DB list [PREFIX]     keys, one a line
 *	kvedit DB get KEY           the value
 *	kvedit DB put KEY VALUE
 *	kvedit DB del KEY
 *
 * In arguments and in what it lists, "%00" is a NUL and "%25" a percent sign.
 */
#include "contentd/meta/kv_rocks.h"

#include <stdio.h>

static void decode(const char *text, struct buf *out)
{
	for (; *text; text++) {
		uint64_t c;

		if (*text == '%' && str_u64(str_make(text + 1, strnlen(text + 1, 2)), 16, &c)) {
			buf_addc(out, (char)c);
			text += 2;
		} else {
			buf_addc(out, *text);
		}
	}
}

static int print_key(void *arg, struct str key, struct str value, struct err *err)
{
	for (size_t i = 0; i < key.n; i++)
		if (key.p[i] == '%' || (unsigned char)key.p[i] < ' ')
			printf("%%%02x", (unsigned char)key.p[i]);
		else
			putchar(key.p[i]);
	putchar('\n');
	return 0;
}

static int run(const struct kv *kv, int argc, char **argv, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	struct kv_op op;

	if (argc > 3)
		decode(argv[3], &key);
	if (!strcmp(argv[2], "list"))
		return kv_scan(kv, buf_str(&key), print_key, NULL, err);
	if (!strcmp(argv[2], "get") && argc == 4) {
		TRY(kv_get(kv, buf_str(&key), &value, err));
		fwrite(value.p, 1, value.n, stdout);
		return 0;
	}
	if ((strcmp(argv[2], "put") || argc != 5) && (strcmp(argv[2], "del") || argc != 4))
		return err_set(err, ERR_INVALID, "usage: kvedit DB list|get|put|del [KEY [VALUE]]");
	if (argc == 5)
		decode(argv[4], &value);
	op = (struct kv_op){buf_str(&key), buf_str(&value), argc == 4};
	return kv_write(kv, &op, 1, true, err);
}

int main(int argc, char **argv)
{
	AUTO(kv_rocks) struct kv_rocks *k = NULL;
	struct err err = ERR_INIT;

	if (argc < 3)
		err_set(&err, ERR_INVALID, "usage: kvedit DB list|get|put|del [KEY [VALUE]]");
	else if (kv_rocks_open(argv[1], &k, &err) >= 0)
		run(kv_rocks_kv(k), argc, argv, &err);
	if (err.code)
		fprintf(stderr, "kvedit: %s\n", err.msg);
	return err.code != ERR_OK;
}
