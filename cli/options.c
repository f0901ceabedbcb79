#include "cli/options.h"

#include <assert.h>
#include <string.h>

#include "base/num.h"

#define TEXT(env, flag, field, def, text) \
	{env, flag, SETTING_TEXT, offsetof(struct cli_settings, field), def, 0, 0, NULL, false, text}
#define SECRET(env, flag, field, text) \
	{env, flag, SETTING_TEXT, offsetof(struct cli_settings, field), "", 0, 0, NULL, true, text}
#define BOOL(env, flag, field, def, text) \
	{env, flag, SETTING_BOOL, offsetof(struct cli_settings, field), def, 0, 0, NULL, false, text}

static const struct setting rows[] = {
	TEXT("DROVER_ADDR", "address", address, "http://127.0.0.1:8700",
	    "The dispatcher: http(s)://host:port, consul://drover-dispatcher or nomad://SERVICE."),
	SECRET("DROVER_TOKEN", "token", token, "API token; the environment hides it better than the command line."),
	TEXT("DROVER_CACERT", "ca-cert", ca_cert, "", "CA certificate file to trust."),
	TEXT("DROVER_CAPATH", "ca-path", ca_path, "", "Directory of CA certificates to trust."),
	TEXT("DROVER_CLIENT_CERT", "client-cert", client_cert, "", "Client certificate."),
	TEXT("DROVER_CLIENT_KEY", "client-key", client_key, "", "Key of the client certificate."),
	TEXT("DROVER_TLS_SERVER_NAME", "tls-server-name", tls_server_name, "", "Name that the server's certificate must have."),
	BOOL("DROVER_SKIP_VERIFY", "tls-skip-verify", skip_verify, "false", "Trust any TLS certificate."),
	BOOL("DROVER_CLI_JSON", "json", json, "false", "Print the API's JSON in place of text."),
	BOOL("DROVER_CLI_NO_COLOR", "no-color", no_color, "false", "No colours."),
	TEXT("NO_COLOR", NULL, no_color_common, "", "No colours when it is set to anything."),
	TEXT("TERM", NULL, term, "", "Kind of terminal; \"dumb\" gets neither colours nor progress."),
	TEXT("COLUMNS", NULL, columns, "", "Width of tables where the terminal does not say."),
	TEXT("HOME", NULL, home, "", "For the default of XDG_DATA_HOME."),
	TEXT("XDG_DATA_HOME", NULL, data_home, "", "Where `drover dev` keeps its data; default ~/.local/share."),
	TEXT("PATH", NULL, path, "", "Handed on by `drover dev`."),
	TEXT("TMPDIR", NULL, temp_dir, "", "For packed targets; handed on by `drover dev`."),
	TEXT("DROVER_TOOLCHAINS", NULL, toolchains, "", "Folder with a toolchain per vertical; handed on by `drover dev`."),
	TEXT("DROVER_TOOLBOX", NULL, toolbox, "", "Folder with verticals/ and workflows/ for `drover dev`."),
	TEXT("CACHE_DIR", NULL, cache_dir, "/var/cache/drover", "Cache of this machine's workers, for `drover cache`."),

	CONSUL_SETTINGS(struct cli_settings, consul),
	NOMAD_SETTINGS(struct cli_settings, nomad),
};

const struct settings_table cli_settings_table = {
	.program = "drover",
	.summary = "submits targets to security workflows, follows their runs, and shows what they found",
	.rows = rows,
	.n = sizeof(rows) / sizeof(rows[0]),
	.file_env = "DROVER_CLI_CONFIG",
};

/* A word of argv that begins with a dash, taken apart. */
struct dashed {
	const char *name;
	size_t len;
	const char *value; /* behind '='; NULL: none */
};

static bool
dashed(const char *word, struct dashed *ret)
{
	if (word[0] != '-' || word[1] == '\0')
		return false;
	ret->name = word + (word[1] == '-' ? 2 : 1);
	ret->len = strcspn(ret->name, "=");
	ret->value = ret->name[ret->len] == '=' ? ret->name + ret->len + 1 : NULL;
	return true;
}

static bool
names(const char *name, const struct dashed *d)
{
	return name != NULL && strlen(name) == d->len && memcmp(name, d->name, d->len) == 0;
}

static const struct setting *
shared_option(const struct dashed *d)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (names(rows[i].flag, d))
			return &rows[i];
	return NULL;
}

static const struct option *
own_option(const struct command *command, const struct dashed *d)
{
	for (size_t i = 0; command != NULL && i < command->n_options; i++)
		if (names(command->options[i].name, d) || names(command->options[i].alias, d))
			return &command->options[i];
	return NULL;
}

/* Index of the next word from i on that is no shared option (nor a shared option's value); argc if there is none. */
static int
next_word(int argc, char **argv, int i)
{
	struct dashed d;

	for (; i < argc && dashed(argv[i], &d); i++) {
		const struct setting *s = shared_option(&d);

		if (s == NULL)
			return argc;
		if (s->type != SETTING_BOOL && d.value == NULL)
			i++;
	}
	return i < argc ? i : argc;
}

static const struct command *
find(const struct command *commands, size_t n, const char *first, const char *second)
{
	size_t len = strlen(first);

	for (size_t i = 0; i < n; i++) {
		const char *name = commands[i].name;

		if (second == NULL ? strcmp(name, first) == 0
		                   : strncmp(name, first, len) == 0 && name[len] == ' ' && strcmp(name + len + 1, second) == 0)
			return &commands[i];
	}
	return NULL;
}

static bool
is_group(const struct command *commands, size_t n, const char *first)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(commands[i].name, first, strlen(first)) == 0 && commands[i].name[strlen(first)] == ' ')
			return true;
	return false;
}

/* Sets the command and which words of argv name it (at most two; argc where there is none). */
static int
find_command(const struct command *commands, size_t n, int argc, char **argv, struct args *a, int at[2], struct err *e)
{
	bool group;

	at[0] = next_word(argc, argv, 1);
	at[1] = at[0] < argc ? next_word(argc, argv, at[0] + 1) : argc;
	if (at[0] == argc)
		return ERR_NOTFOUND;
	if (at[1] < argc && (a->command = find(commands, n, argv[at[0]], argv[at[1]])) != NULL)
		return 0;
	if ((a->command = find(commands, n, argv[at[0]], NULL)) != NULL) {
		at[1] = argc;
		return 0;
	}
	group = is_group(commands, n, argv[at[0]]);
	if (group && at[1] == argc)
		(void)err_set(e, ERR_INVALID, "'%.40s' wants one more word", argv[at[0]]);
	else if (group)
		(void)err_set(e, ERR_INVALID, "'%.40s %.40s' is no command", argv[at[0]], argv[at[1]]);
	else
		(void)err_set(e, ERR_INVALID, "'%.40s' is no command", argv[at[0]]);
	(void)err_hint(e, "drover %s%s--help lists the commands", group ? argv[at[0]] : "", group ? " " : "");
	return ERR_INVALID;
}

/* Takes one option of the command; *i stands on it and is moved on to its value. */
static int
take_option(struct args *a, const struct dashed *d, int argc, char **argv, int *i, struct err *e)
{
	const struct option *o = own_option(a->command, d);
	const char *value = d->value;

	if (o == NULL) {
		(void)err_set(e, ERR_INVALID, "unknown option -%.*s", (int)d->len, d->name);
		(void)err_hint(e, a->command != NULL ? "drover %s --help lists the options" : "drover --help%s",
		    a->command != NULL ? a->command->name : "");
		return ERR_INVALID;
	}
	if (o->value == NULL && value != NULL)
		return err_set(e, ERR_INVALID, "option -%s takes no value", o->name);
	if (o->value != NULL && value == NULL) {
		if (*i + 1 >= argc)
			return err_set(e, ERR_INVALID, "option -%s needs a value (%s)", o->name, o->value);
		value = argv[++*i];
	}
	if (!o->many && o->value != NULL && args_value(a, o->name) != NULL)
		return err_set(e, ERR_INVALID, "option -%s is given twice", o->name);
	if (a->n_given == ARGS_MAX)
		return err_set(e, ERR_INVALID, "more than %d options", ARGS_MAX);
	a->given[a->n_given].option = o;
	a->given[a->n_given++].value = value;
	return 0;
}

/* Splits argv into shared options (their words go to shared), the command's options and its words. */
static int
split(int argc, char **argv, const int at[2], struct args *a, char **shared, int *ret_shared, struct err *e)
{
	bool ended = false;
	struct dashed d;
	int rc;

	for (int i = 1; i < argc; i++) {
		const struct setting *s;

		if (!ended && strcmp(argv[i], "--") == 0) {
			ended = true;
		} else if (!ended && dashed(argv[i], &d)) {
			s = own_option(a->command, &d) == NULL ? shared_option(&d) : NULL;
			if (s == NULL) {
				if ((rc = take_option(a, &d, argc, argv, &i, e)) != 0)
					return rc;
				continue;
			}
			shared[(*ret_shared)++] = argv[i];
			if (s->type != SETTING_BOOL && d.value == NULL && i + 1 < argc)
				shared[(*ret_shared)++] = argv[++i];
		} else if (i != at[0] && i != at[1]) {
			if (a->n_words == ARGS_MAX)
				return err_set(e, ERR_INVALID, "more than %d words", ARGS_MAX);
			a->words[a->n_words++] = argv[i];
		}
	}
	return 0;
}

static int
check_words(const struct args *a, struct err *e)
{
	const struct command *c = a->command;

	if (c == NULL || (a->n_words >= c->min_words && (c->max_words < 0 || a->n_words <= c->max_words)))
		return 0;
	(void)err_set(e, ERR_INVALID, a->n_words < c->min_words ? "too few words" : "unexpected word '%.64s'",
	    a->n_words > 0 ? a->words[a->n_words - 1] : "");
	(void)err_hint(e, "usage: drover %s%s%s", c->name, c->usage[0] != '\0' ? " " : "", c->usage);
	return ERR_INVALID;
}

int
options_parse(const struct command *commands, size_t n, int argc, char **argv, struct cli_settings *s, struct args *a, struct err *e)
{
	char *shared[ARGS_MAX] = {argv[0]};
	int at[2], n_shared = 1, rc, found;

	if (argc >= ARGS_MAX)
		return err_set(e, ERR_INVALID, "more than %d words", ARGS_MAX);
	found = find_command(commands, n, argc, argv, a, at, e);
	if (found == ERR_INVALID)
		return found;
	if ((rc = split(argc, argv, at, a, shared, &n_shared, e)) != 0 || (rc = check_words(a, e)) != 0)
		return rc;
	rc = settings_load(&cli_settings_table, s, n_shared, shared, NULL, e);
	return rc != 0 ? rc : found;
}

void
options_release(struct cli_settings *s)
{
	settings_release(&cli_settings_table, s);
}

const char *
args_nth(const struct args *a, const char *name, int i)
{
	bool known = false;

	for (size_t k = 0; k < a->command->n_options; k++)
		known = known || strcmp(a->command->options[k].name, name) == 0;
	assert(known); /* else the command asks for an option that is not in its table */
	for (int k = 0; k < a->n_given; k++)
		if (strcmp(a->given[k].option->name, name) == 0 && i-- == 0)
			return a->given[k].value != NULL ? a->given[k].value : "";
	return NULL;
}

bool
args_has(const struct args *a, const char *name)
{
	return args_nth(a, name, 0) != NULL;
}

const char *
args_value(const struct args *a, const char *name)
{
	return args_nth(a, name, 0);
}

int
args_int(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	const char *value = args_value(a, name);
	int rc = value == NULL ? 0 : num_int(value, min, max, ret, e);

	return rc == 0 ? 0 : err_prefix(e, rc, "-%s", name);
}

int
args_duration(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret_ms, struct err *e)
{
	const char *value = args_value(a, name);
	int rc = value == NULL ? 0 : num_duration(value, min, max, ret_ms, e);

	return rc == 0 ? 0 : err_prefix(e, rc, "-%s", name);
}
