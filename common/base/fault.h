/* fault.h - named places at which tests make the program die.
 *
 * DROVER_FAULT=name[:n] in the environment kills the process (SIGKILL to itself) when the place is reached for the n-th
 * time (default 1). Without the variable a place costs one predictable branch.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

/* Marks a place. name is a literal such as "pump.before_dispatch"; docs for tests list them by `grep -r fault_point`. */
void fault_point(const char *name);

/* What a child's environment needs for the same fault: "DROVER_FAULT=…" as it was given to us, NULL without one. Static. */
const char *fault_environment(void);

#endif
