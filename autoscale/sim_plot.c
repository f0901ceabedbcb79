#include "autoscale/sim_plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 1120
#define TOP 96
#define ROW 236
#define PANEL_H 150
#define CURVES_X 64
#define CURVES_W 620
#define DOTS_X 790
#define DOTS_W 290
#define TICKS 4

/* By policy; the last colour is ours. Shown: drawn over time as well. */
static const struct {
	const char *name, *color;
	bool shown;
} looks[] = {
	{"target-value", "#d1495b", true}, {"target-value-1s", "#edae49", true}, {"keda-default", "#9fb8ad", false},
	{"keda-accurate", "#66788a", false}, {"keda-eager", "#3f6c51", false}, {"assemblyline", "#8e6bbf", true},
	{"drover", "#0b6fb8", true},
};

static const char *
color_of(const char *policy, bool *ret_shown)
{
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
		if (strcmp(looks[i].name, policy) == 0) {
			*ret_shown = looks[i].shown;
			return looks[i].color;
		}
	*ret_shown = true;
	return "#444444";
}

/* Names of recorded loads come from outside. */
static void
add_text(struct buf *b, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '<' || *s == '>' || *s == '&')
			buf_addf(b, "&#%d;", *s);
		else
			buf_addc(b, *s);
	}
}

static void
label(struct buf *b, double x, double y, const char *class, const char *text)
{
	buf_addf(b, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
	add_text(b, text);
	buf_adds(b, "</text>\n");
}

/* The next round number (1, 2, 5 × 10^k) that is not smaller. */
static double
round_top(double v)
{
	double unit = pow(10, floor(log10(v > 1 ? v : 1)));

	for (size_t i = 0; i < 4; i++) {
		static const double steps[] = {1, 2, 5, 10};

		if (steps[i] * unit >= v)
			return steps[i] * unit;
	}
	return v;
}

static void
frame(struct buf *b, double x, double y, double w)
{
	buf_addf(b, "<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>\n", x, y, w, PANEL_H);
}

static void
curve(struct buf *b, const struct sim_result *r, const char *color, double y, double top)
{
	buf_addf(b, "<polyline class=\"curve\" stroke=\"%s\" points=\"", color);
	for (size_t i = 0; i < SIM_POINTS; i++)
		buf_addf(b, "%.1f,%.1f ", CURVES_X + CURVES_W * ((double)i + 0.5) / SIM_POINTS,
		    y + PANEL_H * (1 - (double)r->workers[i] / top));
	buf_adds(b, "\"/>\n");
}

/* A point of the time axis, in the unit that suits its length: a recorded history may be of minutes. */
static const char *
time_text(double at_ms, int64_t length_ms, char *out, size_t out_len)
{
	static const struct {
		double least_ms, unit_ms;
		const char *name;
	} units[] = {{2 * 3600e3, 3600e3, "h"}, {2 * 60e3, 60e3, "min"}, {0, 1e3, "s"}};
	size_t i = 0;

	while ((double)length_ms < units[i].least_ms)
		i++;
	(void)snprintf(out, out_len, "%.3g %s", at_ms / units[i].unit_ms, units[i].name);
	return out;
}

static void
curves(struct buf *b, const struct sim_load *l, const struct sim_policy *p, size_t n, const struct sim_result *r, double y)
{
	double top = 1;
	char text[32];

	for (size_t i = 0; i < n; i++)
		top = fmax(top, (double)r[i].workers_max);
	top = round_top(top);
	frame(b, CURVES_X, y, CURVES_W);
	for (int i = 0; i <= TICKS; i++) {
		double at = y + PANEL_H * (1 - (double)i / TICKS);

		(void)snprintf(text, sizeof(text), "%g", top * i / TICKS);
		label(b, CURVES_X - 6, at + 4, "left", text);
		label(b, CURVES_X + CURVES_W * (double)i / TICKS, y + PANEL_H + 16, "under",
		    time_text((double)l->length_ms * i / TICKS, l->length_ms, text, sizeof(text)));
		if (i > 0 && i < TICKS)
			buf_addf(b, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", CURVES_X,
			    CURVES_X + CURVES_W, at, at);
	}
	for (size_t i = 0; i < n; i++) {
		bool shown;
		const char *color = color_of(p[i].name, &shown);

		if (shown)
			curve(b, &r[i], color, y, top);
	}
}

/* Waits span from nothing to hours: their axis is logarithmic, from a tenth of a second. */
static double
dot_y(double wait_s, double decades, double y)
{
	return y + PANEL_H * (1 - log10(fmax(wait_s, 0.1) * 10) / decades);
}

static void
dots(struct buf *b, const struct sim_policy *p, size_t n, const struct sim_result *r, double y)
{
	double hours = 0.1, wait = 1, decades;
	char text[32];

	for (size_t i = 0; i < n; i++) {
		hours = fmax(hours, r[i].worker_hours);
		wait = fmax(wait, r[i].wait_p95_s);
	}
	hours = round_top(hours * 1.05);
	decades = ceil(log10(wait * 10) + 0.05);
	frame(b, DOTS_X, y, DOTS_W);
	for (int i = 0; i <= (int)decades; i++) {
		double at = dot_y(pow(10, i - 1), decades, y);

		(void)snprintf(text, sizeof(text), "%g s", pow(10, i - 1));
		label(b, DOTS_X - 6, at + 4, "left", text);
		if (i > 0 && i < (int)decades)
			buf_addf(b, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", DOTS_X, DOTS_X + DOTS_W,
			    at, at);
	}
	for (int i = 0; i <= 2; i++) {
		(void)snprintf(text, sizeof(text), "%g", hours * i / 2);
		label(b, DOTS_X + DOTS_W * (double)i / 2, y + PANEL_H + 16, "under", text);
	}
	for (size_t i = 0; i < n; i++) {
		bool shown;
		const char *color = color_of(p[i].name, &shown);
		double x = DOTS_X + DOTS_W * r[i].worker_hours / hours, at = dot_y(r[i].wait_p95_s, decades, y);

		/* Hollow: it killed runs. */
		buf_addf(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"6\" stroke=\"%s\" stroke-width=\"2.5\" fill=\"%s\"/>\n", x, at, color,
		    r[i].killed > 0 ? "#ffffff" : color);
	}
}

static void
legend(struct buf *b, const struct sim_policy *p, size_t n)
{
	double x = CURVES_X;

	label(b, CURVES_X, 30, "title", "Scaling policies: workers over time, and what waiting costs");
	label(b, CURVES_X, 50, "note",
	    "Left: workers that are there. Right: worker-hours (across) and the wait of the 95th run of a hundred (up, logarithmic); a hollow dot killed runs.");
	for (size_t i = 0; i < n; i++) {
		bool shown;
		const char *color = color_of(p[i].name, &shown);

		buf_addf(b, "<circle cx=\"%.1f\" cy=\"70\" r=\"5\" fill=\"%s\"/>\n", x + 5, color);
		label(b, x + 15, 74, "name", p[i].name);
		x += 40 + 7.6 * (double)strlen(p[i].name);
	}
}

void
sim_plot(struct buf *b, const struct sim_load *loads, size_t n_loads, const struct sim_policy *policies, size_t n_policies,
    const struct sim_result *results)
{
	buf_addf(b,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" viewBox=\"0 0 %d %zu\">\n"
	    "<style>text{font-family:sans-serif;font-size:12px;fill:#333}.title{font-size:17px;font-weight:600}.head{font-size:14px;"
	    "font-weight:600}.left{text-anchor:end}.under{text-anchor:middle}.note{fill:#666}.frame{fill:#fff;stroke:#bbb}"
	    ".grid{stroke:#e6e6e6}.curve{fill:none;stroke-width:1.8;stroke-opacity:.9}</style>\n"
	    "<rect width=\"100%%\" height=\"100%%\" fill=\"#fafafa\"/>\n",
	    WIDTH, TOP + ROW * n_loads, WIDTH, TOP + ROW * n_loads);
	legend(b, policies, n_policies);
	for (size_t i = 0; i < n_loads; i++) {
		double y = TOP + 34 + (double)(ROW * i);

		label(b, CURVES_X, y - 12, "head", loads[i].name);
		label(b, CURVES_X + 16 + 8.5 * (double)strlen(loads[i].name), y - 12, "note", loads[i].text);
		label(b, DOTS_X, y - 12, "note", "wait (p95) by worker-hours");
		curves(b, &loads[i], policies, n_policies, &results[i * n_policies], y);
		dots(b, policies, n_policies, &results[i * n_policies], y);
	}
	buf_adds(b, "</svg>\n");
}
