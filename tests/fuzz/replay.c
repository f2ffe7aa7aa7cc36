/* Stands in for libFuzzer where it is not built in: runs the target over every file of the corpus folders given. */
#include "base/buf.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay_file(const char *path)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, buf_reserve(&b, 65536), 65536)) > 0)
		b.n += (size_t)got;
	/* An exact heap copy, so that a read past the end is seen by the sanitizer. */
	AUTO_FREE uint8_t *exact = xmalloc(b.n ? b.n : 1);
	if (b.n)
		memcpy(exact, b.p, b.n);
	LLVMFuzzerTestOneInput(exact, b.n);
	return got < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	unsigned long files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		struct dirent *e;

		if (!d) {
			fprintf(stderr, "replay: cannot open corpus %s\n", argv[i]);
			return 1;
		}
		while ((e = readdir(d))) {
			AUTO_FREE char *path = xasprintf("%s/%s", argv[i], e->d_name);
			struct stat st;

			if (stat(path, &st) || !S_ISREG(st.st_mode))
				continue;
			if (replay_file(path)) {
				fprintf(stderr, "replay: cannot read %s\n", path);
				return 1;
			}
			files++;
		}
		closedir(d);
	}
	printf("replayed %lu files\n", files);
	return files ? 0 : 1;
}
