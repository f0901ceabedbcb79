/* run_filter.h - which runs a listing shows or a bulk operation is about, from the texts that a client gave. Loop thread. */
#ifndef DISPATCHER_RUN_FILTER_H
#define DISPATCHER_RUN_FILTER_H

#include "dispatcher/ledger.h"

#define RUN_FILTER_TEXTS 8

struct run_filter {
	struct ledger_filter filter; /* points into texts */
	char *texts[RUN_FILTER_TEXTS];
	size_t n_texts;
	bool nothing;                /* another tenant's runs are asked for by who sees none of them: the ledger is not to be asked */
};

struct run_filter_texts { /* as given; NULL and "" are any */
	const char *state;          /* words with commas between */
	const char *workflow, *vertical, *target, *tenant;
	const char *label;          /* "name=value" */
	const char *since, *until;  /* of submission */
	const char *dead;           /* "true": given up after retries */
};

/* Fills f (zeroed before; limit and before are left to the caller). tenant: of a caller who sees no other's (and whose own runs are
 * not what another's name means: `nothing`), else NULL. ERR_INVALID names the text. */
int run_filter_set(struct run_filter *f, const struct run_filter_texts *t, const char *tenant, struct err *e);
void run_filter_release(struct run_filter *f);

/* True where nothing narrows it down but the caller's own tenant. */
bool run_filter_is_all(const struct run_filter_texts *t);

#endif
