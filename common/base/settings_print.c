/* The two views of a settings table for people. */
#include "base/settings.h"

#include <string.h>

#include "base/num.h"

static const char *const type_words[] = {
	[SETTING_TEXT] = "text",
	[SETTING_INT] = "number",
	[SETTING_SIZE] = "size",
	[SETTING_DURATION] = "duration",
	[SETTING_BOOL] = "true or false",
	[SETTING_CHOICE] = "choice",
};

/* The bounds or choices of a setting, "" where it has none. */
static const char *
bounds_text(const struct setting *s, char *out, size_t out_len)
{
	char low[32], high[32];

	out[0] = '\0';
	switch (s->type) {
	case SETTING_INT:
		snprintf(out, out_len, "%lld to %lld", (long long)s->min, (long long)s->max);
		break;
	case SETTING_SIZE:
		snprintf(out, out_len, "%s to %s", num_format_size(s->min, low, sizeof(low)),
		    num_format_size(s->max, high, sizeof(high)));
		break;
	case SETTING_DURATION:
		snprintf(out, out_len, "%s to %s", num_format_duration(s->min, low, sizeof(low)),
		    num_format_duration(s->max, high, sizeof(high)));
		break;
	case SETTING_CHOICE:
		snprintf(out, out_len, "%s", s->choices);
		break;
	case SETTING_TEXT:
	case SETTING_BOOL:
		break;
	}
	return out;
}

/* The default as it may be shown. */
static const char *
default_text(const struct setting *s)
{
	return s->secret && s->def[0] != '\0' ? "(hidden)" : s->def;
}

void
settings_help(const struct settings_table *t, FILE *f)
{
	char bounds[256];

	fprintf(f, "%s - %s\n\nOptions, with the environment variable of the same meaning:\n", t->program, t->summary);
	for (size_t i = 0; i < t->n; i++) {
		const struct setting *s = &t->rows[i];

		if (s->flag != NULL)
			fprintf(f, "\n  --%s, %s  (%s", s->flag, s->env, type_words[s->type]);
		else
			fprintf(f, "\n  %s  (%s", s->env, type_words[s->type]);
		if (*bounds_text(s, bounds, sizeof(bounds)) != '\0')
			fprintf(f, ", %s", bounds);
		if (s->def[0] != '\0')
			fprintf(f, "; default %s", default_text(s));
		fprintf(f, ")\n      %s\n", s->text);
	}
	if (t->file_env != NULL)
		fprintf(f, "\n%s names a file of NAME=value lines, weaker than the environment and the options.\n", t->file_env);
}

/* One cell of a Markdown table, in which a bar would end the cell. */
static void
print_cell(FILE *f, const char *s)
{
	fputs(" ", f);
	for (; *s != '\0'; s++)
		if (*s == '|')
			fputs("\\|", f);
		else
			fputc(*s, f);
	fputs(" |", f);
}

void
settings_markdown(const struct settings_table *t, FILE *f)
{
	char bounds[256], text[128];

	fprintf(f, "| Setting | Option | Type | Default | Bounds | Meaning |\n|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < t->n; i++) {
		const struct setting *s = &t->rows[i];

		fputc('|', f);
		snprintf(text, sizeof(text), "`%s`", s->env);
		print_cell(f, text);
		snprintf(text, sizeof(text), "`--%s`", s->flag != NULL ? s->flag : "");
		print_cell(f, s->flag != NULL ? text : "");
		snprintf(text, sizeof(text), "%s%s", type_words[s->type], s->secret ? ", secret" : "");
		print_cell(f, text);
		snprintf(text, sizeof(text), "`%.100s`", default_text(s));
		print_cell(f, s->def[0] != '\0' ? text : "");
		print_cell(f, bounds_text(s, bounds, sizeof(bounds)));
		print_cell(f, s->text);
		fputc('\n', f);
	}
}
