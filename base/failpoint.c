#include "base/failpoint.h"

#include "base/str.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool failpoint_armed;
static const char *armed; /* NAME:FILE, of the environment */

void failpoint_init(void)
{
	armed = getenv("CONTENTD_FAILPOINT");
	failpoint_armed = armed && strchr(armed, ':');
}

void failpoint_reached(const char *name)
{
	struct str file = str_of(armed);

	if (str_skip(&file, str_of(name)) && str_skip(&file, STR(":")) && unlink(file.p) == 0) {
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	}
}
