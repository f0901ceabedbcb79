/* dev_place.h - where `drover dev` finds programs and toolbox, and where it keeps its data. */
#ifndef CLI_DEV_PLACE_H
#define CLI_DEV_PLACE_H

#include "base/err.h"
#include "cli/cli.h"

struct dev_place {
	char *dir, *data, *store, *cache, *logs; /* folders, made */
	char *bin;       /* folder of this program */
	char *toolbox;
	char *listen;    /* host:port, the port chosen */
	char *url;
	int lock;        /* held: one `drover dev` per directory */
	bool ephemeral;
};

/* Finds and makes all of it from the options and settings. Release also after a failure. Returns 0, ERR_CONFLICT (another one uses
 * the directory), ERR_NOTFOUND (no toolbox), ERR_INVALID, ERR_IO. */
int dev_place_take(const struct cli *c, struct dev_place *p, struct err *e);

/* Frees it; what is ephemeral is removed. */
void dev_place_release(struct dev_place *p);

#endif
