/*
 * contentctl fsck: hands over to `contentd fsck`, which has the database and the formats: linking those here would cost
 * every other verb its start-up time.
 */
#include "contentd/ctl/ctl.h"

int ctl_fsck_verb(struct ctl *c, int argc, char **argv)
{
	static const char *const places[] = {"contentd", NULL};

	return ctl_hand_over(c, places, "fsck", argc, argv);
}
