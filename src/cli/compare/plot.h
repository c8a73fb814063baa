/*
 * Pieces of the page: escaped text and plots in SVG. Positions in a plot are percents of its width
 * and heights are pixels, so a plot fits any width and its text keeps its size.
 */
#ifndef RINGER_CLI_COMPARE_PLOT_H
#define RINGER_CLI_COMPARE_PLOT_H

#include "cli/compare/compare.h"

struct axis {
    double from, to;
    bool log;
    const char *unit;
};

struct bar {
    const char *label, *color; /* color: a class of the style sheet: s-bt, p-native... */
    double value, low, high;   /* low, high: NAN or the spread */
    bool about;                /* the value is shown as "about" so much */
};

struct part {
    const char *label, *color;
    double value;
};

struct line {
    const char *label, *color;
    const double *y;
};

void html_text(FILE *f, const char *text);

/* A number as short as it may be: 0.53, 12.3, 456, 12.3k, 4.5M. */
const char *short_number(double value, char text[24]);

/* One bar below the other, label left, value right. Bars without a value are left out. */
void plot_bars(FILE *f, const struct bar *bar, unsigned n, const struct axis *a);

/* A row of a dot plot: one dot per system. plot_dots_head() prints the axis above the rows. */
void plot_dots_head(FILE *f, const struct axis *a);
void plot_dots_row(FILE *f, const char *name, const char *text, const struct bar *dot, unsigned n,
                   const struct axis *a);

/* One bar cut into the parts, and their names with numbers below. */
void plot_stack(FILE *f, const char *title, const struct part *part, unsigned n, const char *unit);

/* Lines over x[0..n), with a key. */
void plot_lines(FILE *f, const double *x, unsigned n, const struct line *line, unsigned lines,
                const char *x_unit, const char *y_unit);

/* The style sheet and the beginning of the page. */
void page_begin(FILE *f, const char *title);
void page_end(FILE *f);

#endif
