/*
 * contentctl convert: hands over to content-convert, which needs no daemon but the registry client: linking that here
 * would cost every other verb its start-up time.
 */
#include "contentd/ctl/ctl.h"

int ctl_convert_verb(struct ctl *c, int argc, char **argv)
{
	static const char *const places[] = {"../libexec/contentd/content-convert", "content-convert", NULL};

	return ctl_hand_over(c, places, NULL, argc, argv);
}
