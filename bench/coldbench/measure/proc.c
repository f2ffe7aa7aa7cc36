#include "bench/coldbench/measure/proc.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define FILE_BYTES_MAX 65536

bool proc_read(pid_t pid, const char *name, struct buf *out)
{
	char path[64];
	struct err why;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	buf_clear(out);
	if (file_read(AT_FDCWD, path, FILE_BYTES_MAX, out, &why) >= 0)
		return true;
	buf_clear(out);
	errno = why.sys ?: EFBIG;
	return false;
}
