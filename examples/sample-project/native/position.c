/* position.c - position reports of the ships: "NAME,LAT,LON". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct position {
	char ship[32];
	double latitude, longitude;
};

void
position_set_ship(struct position *p, const char *ship)
{
	strcpy(p->ship, ship);
}

void
position_set_ship_checked(struct position *p, const char *ship)
{
	snprintf(p->ship, sizeof(p->ship), "%s", ship);
}

int
position_parse(const char *line, struct position *p)
{
	return sscanf(line, "%s %lf %lf", p->ship, &p->latitude, &p->longitude) == 3;
}

int
position_parse_checked(const char *line, struct position *p)
{
	return sscanf(line, "%31[^,],%lf,%lf", p->ship, &p->latitude, &p->longitude) == 3;
}

void
position_log(const char *text)
{
	fprintf(stderr, text);
}

void
position_log_line(const char *text)
{
	fprintf(stderr, "%s\n", text);
}

int
position_notify(const char *command)
{
	return system(command);
}
