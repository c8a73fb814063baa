/*
 * Plots and the page's frame. Colors are classes of the style sheet, which has them for light and
 * for dark pages.
 */
#include "cli/compare/plot.h"

#include <math.h>
#include <string.h>

#define BAR_HEIGHT  20
#define LINE_HEIGHT 180

static const char style[] =
    ":root{--bg:#fbfaf8;--fg:#1d2329;--soft:#5d6771;--line:#e0ddd6;--card:#fff;"
    "--native:#6b7280;--bt:#1f6fd1;--kvm:#14804a;--interp:#8b4fc6;--tcg:#c4620a;--qkvm:#0f8b8d;"
    "--paper:#b9a98a;--bad:#b42318;--good:#14804a}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ec;--soft:#9aa5b0;"
    "--line:#2d333a;--card:#1c2025;--native:#9aa3ae;--bt:#5aa2f5;--kvm:#4cc38a;--interp:#bb8cf0;"
    "--tcg:#f0994a;--qkvm:#4fc7c9;--paper:#857a63;--bad:#ff8a80;--good:#4cc38a}}"
    "*{box-sizing:border-box}html{color-scheme:light dark}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"
    "'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    "main{max-width:1160px;margin:0 auto;padding:24px 20px 64px}"
    "h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}"
    "h2{font-size:1.25rem;margin:48px 0 4px;padding-top:12px;border-top:1px solid var(--line)}"
    "h3{font-size:.95rem;margin:0}p{margin:4px 0 14px;max-width:75ch}"
    ".soft,small{color:var(--soft)}small{font-size:.8rem}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));"
    "gap:14px;margin:14px 0}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:10px;"
    "padding:12px 14px;min-width:0}.card p{margin:0 0 8px;font-size:.82rem;color:var(--soft)}"
    ".bars{display:grid;grid-template-columns:112px 1fr 52px;"
    "column-gap:8px;font-size:.78rem;line-height:20px}"
    ".bars .l,.bars .v{white-space:nowrap}.bars .v{font-variant-numeric:tabular-nums;"
    "text-align:right}.bars svg{display:block;width:100%;overflow:visible}"
    ".p{color:var(--soft)}"
    ".dots{display:grid;grid-template-columns:minmax(92px,150px) 1fr;column-gap:10px;"
    "font-size:.8rem;align-items:center}.dots svg{display:block;width:100%;overflow:visible}"
    ".dots .n{overflow-wrap:anywhere}"
    ".dots+.card{margin-top:16px}.key{display:flex;flex-wrap:wrap;gap:4px "
    "16px;font-size:.82rem;margin:8px 0}"
    ".key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;"
    "vertical-align:-1px}.stack{margin:0 0 16px}.stack svg{display:block;width:100%}"
    "circle{stroke:var(--bg);stroke-width:1}svg "
    "text{fill:var(--soft);font-size:11px}.grid{stroke:var(--line);stroke-width:1}"
    ".whisker{stroke:var(--fg);stroke-width:1.5;opacity:.55}"
    ".curve{fill:none;stroke-width:2}.scroll{overflow-x:auto;margin:10px 0}"
    "table{border-collapse:collapse;font-size:.84rem;width:100%}"
    "th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:left;"
    "vertical-align:top}th{color:var(--soft);font-weight:600;white-space:nowrap}"
    "td.r,th.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "code{font-size:.78rem;overflow-wrap:anywhere}"
    "td.w{overflow-wrap:anywhere}"
    ".bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}"
    "details{margin:12px 0}summary{cursor:pointer;color:var(--soft);font-size:.9rem}"
    "@media(max-width:560px){main{padding:18px 14px 48px}h1{font-size:1.4rem}"
    "th,td{padding:5px 7px}th{white-space:normal}.dots{grid-template-columns:92px 1fr}}";

/* A class for each color: fill, stroke and background, as the element may have it. */
static const char *const colors[][2] = {
    {"s-native", "native"}, {"s-bt", "bt"},         {"s-kvm", "kvm"},     {"s-interp", "interp"},
    {"s-qemu-tcg", "tcg"},  {"s-qemu-kvm", "qkvm"}, {"p-paper", "paper"}, {"s-line", "line"},
};

void html_text(FILE *f, const char *text)
{
    for (; *text; text++)
        if (*text == '<')
            fputs("&lt;", f);
        else if (*text == '&')
            fputs("&amp;", f);
        else if (*text == '"')
            fputs("&quot;", f);
        else
            fputc(*text, f);
}

const char *short_number(double v, char text[24])
{
    if (!isfinite(v))
        snprintf(text, 24, "-");
    else if (v >= 1e6)
        snprintf(text, 24, "%.3gM", v / 1e6);
    else if (v >= 9999.5)
        snprintf(text, 24, "%.3gk", v / 1e3);
    else if (v >= 99.5)
        snprintf(text, 24, "%.0f", v);
    else
        snprintf(text, 24, "%.3g", v);
    return text;
}

static double percent(const struct axis *a, double v)
{
    double p = a->log ? (log(MAX(v, 1e-12)) - log(a->from)) / (log(a->to) - log(a->from))
                      : (v - a->from) / (a->to - a->from);
    return 100 * MIN(MAX(p, 0), 1);
}

/* Calls `draw` for decades, or for quarters of a linear axis. */
static void grid(FILE *f, const struct axis *a, int height, bool text)
{
    char number[24];
    for (unsigned k = 0; k <= 40; k++) {
        double v = a->log ? a->from * pow(10, k) : a->from + (a->to - a->from) * k / 4;
        if (v > a->to * 1.0001)
            break;
        double x = percent(a, v);
        if (text)
            fprintf(f, "<text x=\"%.2f%%\" y=\"12\" text-anchor=\"%s\">%s</text>", x,
                    k == 0   ? "start"
                    : x > 99 ? "end"
                             : "middle",
                    short_number(v, number));
        else
            fprintf(f, "<line class=\"grid\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"%d\"/>", x,
                    x, height);
    }
}

static unsigned with_value(const struct bar *bar, unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++)
        count += isfinite(bar[i].value);
    return count;
}

static void draw_bars(FILE *f, const struct bar *bar, unsigned n, const struct axis *a)
{
    unsigned row = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!isfinite(bar[i].value))
            continue;
        int y = (int)row++ * BAR_HEIGHT;
        double width = MAX(percent(a, bar[i].value), 0.6);
        fprintf(f, "<rect class=\"%s\" x=\"0\" y=\"%d\" width=\"%.2f%%\" height=\"%d\" rx=\"2\"/>",
                bar[i].color, y + 4, width, BAR_HEIGHT - 8);
        if (isfinite(bar[i].low) && bar[i].high > bar[i].low)
            fprintf(f, "<line class=\"whisker\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\"/>",
                    percent(a, bar[i].low), percent(a, bar[i].high), y + BAR_HEIGHT / 2,
                    y + BAR_HEIGHT / 2);
    }
}

void plot_bars(FILE *f, const struct bar *bar, unsigned n, const struct axis *a)
{
    int height = (int)with_value(bar, n) * BAR_HEIGHT;
    char number[24];
    fputs("<div class=\"bars\"><div class=\"l\">", f);
    for (unsigned i = 0; i < n; i++)
        if (isfinite(bar[i].value)) {
            fprintf(f, "<div%s>", bar[i].color[0] == 'p' ? " class=\"p\"" : "");
            html_text(f, bar[i].label);
            fputs("</div>", f);
        }
    fprintf(f, "</div><svg height=\"%d\" role=\"img\" aria-label=\"bars; the numbers are beside\">",
            height);
    grid(f, a, height, false);
    draw_bars(f, bar, n, a);
    fputs("</svg><div class=\"v\">", f);
    for (unsigned i = 0; i < n; i++)
        if (isfinite(bar[i].value)) {
            fprintf(f, "<div%s>%s%s%s</div>", bar[i].color[0] == 'p' ? " class=\"p\"" : "",
                    bar[i].about ? "~" : "", short_number(bar[i].value, number), a->unit);
        }
    fputs("</div></div>", f);
}

void plot_dots_head(FILE *f, const struct axis *a)
{
    fprintf(f, "<div class=\"n soft\">%s</div><svg height=\"18\" aria-hidden=\"true\">", a->unit);
    grid(f, a, 18, true);
    fputs("</svg>", f);
}

void plot_dots_row(FILE *f, const char *name, const char *text, const struct bar *dot, unsigned n,
                   const struct axis *a)
{
    char number[24];
    if (with_value(dot, n) == 0)
        return;
    fputs("<div class=\"n\" title=\"", f);
    html_text(f, text);
    fputs("\">", f);
    html_text(f, name);
    fputs("</div><svg height=\"22\" role=\"img\" aria-label=\"", f);
    html_text(f, name);
    fputs("\">", f);
    grid(f, a, 22, false);
    for (unsigned i = 0; i < n; i++)
        if (isfinite(dot[i].value))
            fprintf(f,
                    "<circle class=\"%s\" cx=\"%.2f%%\" cy=\"11\" r=\"5.5\"><title>%s: %s %s"
                    "</title></circle>",
                    dot[i].color, percent(a, dot[i].value), dot[i].label,
                    short_number(dot[i].value, number), a->unit);
    fputs("</svg>", f);
}

static void key_item(FILE *f, const char *color, const char *label, const char *value)
{
    fprintf(f, "<span><i class=\"%s\"></i>", color);
    html_text(f, label);
    fprintf(f, "%s%s</span>", *value ? " " : "", value);
}

void plot_stack(FILE *f, const char *title, const struct part *part, unsigned n, const char *unit)
{
    double sum = 0, at = 0;
    char number[24], value[64];
    for (unsigned i = 0; i < n; i++)
        sum += part[i].value;
    if (!(sum > 0))
        return;
    fputs("<div class=\"stack\"><h3>", f);
    html_text(f, title);
    fputs("</h3><svg height=\"26\" role=\"img\" aria-label=\"shares; the numbers are below\">", f);
    for (unsigned i = 0; i < n; i++) {
        fprintf(f, "<rect class=\"%s\" x=\"%.2f%%\" y=\"4\" width=\"%.2f%%\" height=\"20\"/>",
                part[i].color, 100 * at / sum, 100 * part[i].value / sum);
        at += part[i].value;
    }
    fputs("</svg><div class=\"key\">", f);
    for (unsigned i = 0; i < n; i++) {
        if (!(part[i].value > 0))
            continue;
        snprintf(value, sizeof(value), "%s%s (%.1f&#8239;%%)", short_number(part[i].value, number),
                 unit, 100 * part[i].value / sum);
        key_item(f, part[i].color, part[i].label, value);
    }
    fputs("</div></div>", f);
}

void plot_lines(FILE *f, const double *x, unsigned n, const struct line *line, unsigned lines,
                const char *x_unit, const char *y_unit)
{
    double top = 0;
    char number[24];
    for (unsigned k = 0; k < lines; k++)
        for (unsigned i = 0; i < n; i++)
            top = MAX(top, line[k].y[i]);
    if (n < 2 || !(top > 0) || !(x[n - 1] > 0))
        return;
    /* The curves' own coordinates are stretched to the width, their strokes are not. */
    fprintf(f,
            "<svg width=\"100%%\" height=\"%d\" viewBox=\"0 0 1000 %d\" "
            "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"over time\">"
            "<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"1\" y2=\"1\"/>"
            "<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"%d\" y2=\"%d\"/>",
            LINE_HEIGHT, LINE_HEIGHT, LINE_HEIGHT - 1, LINE_HEIGHT - 1);
    for (unsigned k = 0; k < lines; k++) {
        fprintf(f, "<polyline class=\"curve c%s\" vector-effect=\"non-scaling-stroke\" points=\"",
                line[k].color);
        for (unsigned i = 0; i < n; i++)
            fprintf(f, "%.1f,%.1f ", 1000 * x[i] / x[n - 1],
                    (LINE_HEIGHT - 4) * (1 - line[k].y[i] / top) + 2);
        fputs("\"/>", f);
    }
    fprintf(f, "</svg><div class=\"key soft\"><span>left: 0 %s</span><span>right: %.3g %s</span>",
            x_unit, x[n - 1], x_unit);
    fprintf(f, "<span>top: %s %s</span></div><div class=\"key\">", short_number(top, number),
            y_unit);
    for (unsigned k = 0; k < lines; k++)
        key_item(f, line[k].color, line[k].label, "");
    fputs("</div>", f);
}

void page_begin(FILE *f, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<link rel=\"icon\" href=\"data:,\"><title>",
          f);
    html_text(f, title);
    fprintf(f, "</title>\n<style>%s", style);
    for (unsigned i = 0; i < ARRAY_SIZE(colors); i++)
        fprintf(f, ".%s{fill:var(--%s);background:var(--%s)}.c%s{stroke:var(--%s)}", colors[i][0],
                colors[i][1], colors[i][1], colors[i][0], colors[i][1]);
    fputs("</style></head>\n<body><main>\n", f);
}

void page_end(FILE *f)
{
    fputs("</main></body></html>\n", f);
}
