# What report.awk and disk.awk share: medians of what was collected as value[key, 1] to value[key, count[key]], and JSON
# strings. Awk reads it beside them.

function median(key,    n, i, j, t, v) {
    n = count[key]
    if (!n)
        return ""
    for (i = 1; i <= n; i++)
        v[i] = value[key, i]
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && v[j - 1] > v[j]; j--) {
            t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
        }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

function text(s) {
    gsub(/["\\]/, "\\\\&", s)
    return "\"" s "\""
}
