#include "base/settings.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/num.h"

#define FILE_BYTES_MAX (256 * 1024)

/* Where a value came from; a stronger source is asked first. */
enum source { FROM_FLAG, FROM_ENV, FROM_FILE, N_SOURCES };

/* The texts found for one row; NULL where a source has none. Texts of argv, the environment or struct texts.file. */
struct found {
	const char *text[N_SOURCES];
};

struct texts {
	struct found *rows;
	struct buf file; /* the settings file, its lines cut into strings */
};

static bool
parse_bool(const char *s, bool *ret_value)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = {{"true", true}, {"yes", true}, {"on", true}, {"1", true}, {"false", false}, {"no", false}, {"off", false},
	    {"0", false}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(s, words[i].word) == 0) {
			*ret_value = words[i].value;
			return true;
		}
	return false;
}

static bool
is_choice(const char *choices, const char *s)
{
	size_t len = strlen(s);

	for (const char *p = choices;; p++) {
		const char *end = strchrnul(p, '|');

		if ((size_t)(end - p) == len && memcmp(p, s, len) == 0)
			return true;
		if (*end == '\0')
			return false;
		p = end;
	}
}

static void
set_text(void *into, const struct setting *s, const char *text)
{
	char **field = (char **)((char *)into + s->offset);

	free(*field);
	*field = xstrdup(text);
}

/* Checks one text and stores it. */
static int
store(const struct setting *s, const char *text, void *into, struct err *e)
{
	void *field = (char *)into + s->offset;
	int rc = 0;

	switch (s->type) {
	case SETTING_TEXT:
		set_text(into, s, text);
		break;
	case SETTING_INT:
		rc = num_int(text, s->min, s->max, field, e);
		break;
	case SETTING_SIZE:
		rc = num_size(text, s->min, s->max, field, e);
		break;
	case SETTING_DURATION:
		rc = num_duration(text, s->min, s->max, field, e);
		break;
	case SETTING_BOOL:
		if (!parse_bool(text, field))
			rc = err_set(e, ERR_INVALID, "'%.40s' is neither true nor false", text);
		break;
	case SETTING_CHOICE:
		if (!is_choice(s->choices, text))
			rc = err_set(e, ERR_INVALID, "'%.40s' is none of %s", text, s->choices);
		else
			set_text(into, s, text);
		break;
	}
	if (rc != 0 && s->secret)
		err_set(e, rc, "the value does not fit");
	return rc;
}

static const struct setting *
row_by_flag(const struct settings_table *t, const char *name, size_t len)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].flag != NULL && strlen(t->rows[i].flag) == len && memcmp(t->rows[i].flag, name, len) == 0)
			return &t->rows[i];
	return NULL;
}

static const struct setting *
row_by_env(const struct settings_table *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->rows[i].env, name) == 0)
			return &t->rows[i];
	return NULL;
}

/* Finds the texts of the command line. Returns 0, or ERR_INVALID. */
static int
read_flags(const struct settings_table *t, struct found *found, int argc, char **argv, int *ret_rest, struct err *e)
{
	int i;

	for (i = 1; i < argc; i++) {
		const char *word = argv[i], *name = word + strspn(word, "-"), *value;
		const struct setting *s;
		size_t len = strcspn(name, "=");

		if (strcmp(word, "--") == 0) {
			i++;
			break;
		}
		if (word[0] != '-' || word[1] == '\0')
			break;
		s = name - word <= 2 ? row_by_flag(t, name, len) : NULL;
		if (s == NULL) {
			err_set(e, ERR_INVALID, "unknown option %.*s", (int)(name - word + (ptrdiff_t)len), word);
			err_hint(e, "%s --help lists the options", t->program);
			return ERR_INVALID;
		}
		if (name[len] == '=')
			value = name + len + 1;
		else if (s->type == SETTING_BOOL)
			value = "true";
		else if (i + 1 < argc)
			value = argv[++i];
		else
			return err_set(e, ERR_INVALID, "option -%s needs a value", s->flag);
		found[s - t->rows].text[FROM_FLAG] = value;
	}
	if (ret_rest == NULL && i < argc) {
		err_set(e, ERR_INVALID, "unexpected word '%.64s'", argv[i]);
		err_hint(e, "%s --help lists the options", t->program);
		return ERR_INVALID;
	}
	if (ret_rest != NULL)
		*ret_rest = i;
	return 0;
}

/* Cuts blanks at both ends, in place. */
static char *
trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	len = strlen(s);
	while (len > 0 && strchr(" \t\r", s[len - 1]) != NULL)
		s[--len] = '\0';
	return s;
}

/* Takes one line of the settings file, which is cut up in place. */
static int
read_line(const struct settings_table *t, struct found *found, char *line, bool shared, struct err *e)
{
	const struct setting *s;
	char *name = trim(line), *value;

	if (*name == '\0' || *name == '#')
		return 0;
	value = strchr(name, '=');
	if (value == NULL)
		return err_set(e, ERR_INVALID, "not NAME=value");
	*value++ = '\0';
	name = trim(name);
	s = row_by_env(t, name);
	if (s == NULL)
		return err_set(e, ERR_INVALID, "unknown setting %.64s", name);
	if (found[s - t->rows].text[FROM_FILE] != NULL)
		return err_set(e, ERR_INVALID, "%s is set twice", name);
	value = trim(value);
	if (s->secret && shared && *value != '\0') {
		err_set(e, ERR_DENIED, "%s is a secret, but other users may read or write the file", name);
		err_hint(e, "chmod o-rwx,g-w the settings file");
		return ERR_DENIED;
	}
	found[s - t->rows].text[FROM_FILE] = value;
	return 0;
}

static int
read_settings_file(const struct settings_table *t, struct texts *texts, const char *path, struct err *e)
{
	struct stat st;
	char *next;
	int rc;

	/* Before the read: a file that is opened to others afterwards was safe when it was read. */
	if (stat(path, &st) != 0)
		return err_set(e, ERR_IO, "%s names the settings file %.128s: %s", t->file_env, path, strerror(errno));
	rc = file_read(AT_FDCWD, path, &texts->file, e);
	if (rc != 0)
		return err_prefix(e, rc == ERR_TOOBIG ? ERR_INVALID : ERR_IO, "%s", t->file_env);
	if (texts->file.len != strlen(buf_str(&texts->file)))
		return err_set(e, ERR_INVALID, "%.128s holds a NUL byte", path);
	next = texts->file.data;
	for (unsigned number = 1; next != NULL; number++) {
		char *line = strsep(&next, "\n");

		rc = read_line(t, texts->rows, line, (st.st_mode & (S_IRWXO | S_IWGRP)) != 0, e);
		if (rc != 0)
			return err_prefix(e, rc, "%.128s:%u", path, number);
	}
	return 0;
}

static int
read_environment(const struct settings_table *t, struct texts *texts, struct err *e)
{
	const char *path = t->file_env != NULL ? getenv(t->file_env) : NULL;

	for (size_t i = 0; i < t->n; i++) {
		const char *text = getenv(t->rows[i].env);

		/* Compose files and job templates set what they do not know to nothing. */
		texts->rows[i].text[FROM_ENV] = text != NULL && *text != '\0' ? text : NULL;
	}
	return path != NULL && *path != '\0' ? read_settings_file(t, texts, path, e) : 0;
}

/* Stores the strongest text of a row, or its default. */
static int
apply(const struct settings_table *t, const struct setting *s, const struct found *found, void *into, struct err *e)
{
	static const char *const names[] = {"command line", "environment", "settings file"};
	const char *text = s->def, *source = "default";
	int rc;

	for (int i = 0; i < N_SOURCES; i++)
		if (found->text[i] != NULL) {
			text = found->text[i];
			source = names[i];
			break;
		}
	if (text == s->def && *text == '\0') { /* nothing said and no default */
		if (s->type == SETTING_TEXT || s->type == SETTING_CHOICE)
			set_text(into, s, "");
		return 0;
	}
	rc = store(s, text, into, e);
	if (rc == 0)
		return 0;
	err_prefix(e, rc, "%s (%s)", s->env, source);
	err_hint(e, "%s --help lists the settings and their bounds", t->program);
	return rc;
}

int
settings_load(const struct settings_table *t, void *into, int argc, char **argv, int *ret_rest, struct err *e)
{
	struct texts texts = {.rows = xcalloc(t->n, sizeof(texts.rows[0])), .file = buf_make(FILE_BYTES_MAX)};
	int rc, rest = argc;

	rc = read_flags(t, texts.rows, argc, argv, ret_rest != NULL ? &rest : NULL, e);
	if (rc == 0)
		rc = read_environment(t, &texts, e);
	for (size_t i = 0; rc == 0 && i < t->n; i++)
		rc = apply(t, &t->rows[i], &texts.rows[i], into, e);
	if (rc != 0)
		settings_release(t, into);
	else if (ret_rest != NULL)
		*ret_rest = rest;
	if (texts.file.data != NULL)
		mem_wipe(texts.file.data, texts.file.cap);
	buf_release(&texts.file);
	free(texts.rows);
	return rc;
}

void
settings_release(const struct settings_table *t, void *into)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct setting *s = &t->rows[i];
		char **field = (char **)((char *)into + s->offset);

		if (s->type != SETTING_TEXT && s->type != SETTING_CHOICE)
			continue;
		if (s->secret && *field != NULL)
			mem_wipe(*field, strlen(*field));
		free(*field);
		*field = NULL;
	}
}

bool
settings_wants_help(int argc, char **argv)
{
	static const char *const words[] = {"-h", "-help", "--help"};

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++)
			if (strcmp(argv[i], words[k]) == 0)
				return true;
	return false;
}
