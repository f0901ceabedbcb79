#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

void
copies(char *destination, const char *source, size_t size)
{
	/* ruleid: c-unbounded-copy */
	strcpy(destination, source);
	/* ruleid: c-unbounded-copy */
	sprintf(destination, "%s!", source);
	/* ok: c-unbounded-copy */
	snprintf(destination, size, "%s!", source);
	/* ok: c-unbounded-copy */
	strcpy(destination, "fixed");
}

void
input(char *line, int size)
{
	/* ruleid: c-gets */
	gets(line);
	/* ok: c-gets */
	fgets(line, size, stdin);
	/* ruleid: c-scanf-unbounded-string */
	scanf("%s", line);
	/* ok: c-scanf-unbounded-string */
	scanf("%15s", line);
}

void
output(const char *text)
{
	/* ruleid: c-format-string */
	printf(text);
	/* ruleid: c-format-string */
	syslog(LOG_ERR, text);
	/* ok: c-format-string */
	printf("%s", text);
	/* ok: c-format-string */
	printf("done\n");
}

void
commands(const char *command)
{
	/* ruleid: c-command-from-data */
	system(command);
	/* ok: c-command-from-data */
	system("sync");
}

void
memory(size_t count, char *name)
{
	/* ruleid: c-insecure-temporary-file */
	tmpnam(name);
	/* ok: c-insecure-temporary-file */
	mkstemp(name);
	/* ruleid: c-alloca-from-variable */
	char *buffer = alloca(count);
	/* ok: c-alloca-from-variable */
	char *fixed = alloca(64);
}
