# Turns bench/run's raw lines "ROUND SYSTEM PROGRAM NAME SECONDS RESULT" into the table and the JSON file. Medians over
# rounds; ratios to the machine itself and to QEMU's TCG; geometric means of the ratios. A result that differs
# between systems is an error of one of them, and the exit status is 1.

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

function seconds(x) { return x == "" ? "-" : x < 0.1 ? sprintf("%.3f ms", x * 1000) : sprintf("%.3f s", x) }

# a / b, remembered for the mean of the column.
function ratio(column, a, b) {
    if (a == "" || b == "" || b <= 0)
        return "-"
    logs[column] += log(a / b)
    ratios[column]++
    return sprintf("%.2f", a / b)
}

NF == 6 && $5 + 0 > 0 {
    key = $2 SUBSEP $3 SUBSEP $4
    work = $3 SUBSEP $4
    value[key, ++count[key]] = $5 + 0
    if (!($2 in known)) { known[$2]; system_of[++systems] = $2 }
    if ($3 == "boot" || $3 == "rate") next
    if (!(work in seen)) { seen[work]; work_of[++works] = work }
    if (!(work in result)) result[work] = $6
    else if (result[work] != $6) wrong[work] = $2
    next
}
{ print "bench: not understood: " $0; failed = 1 }

function virtual(name) { return name != "native" }
function own_engine(name) { return name !~ /^(native|qemu-tcg)$/ }
function mean(column) { return ratios[column] ? sprintf("%.2f", exp(logs[column] / ratios[column])) : "-" }

function print_head(    s) {
    printf "\n%-18s", "workload"
    for (s = 1; s <= systems; s++) printf " %12s", system_of[s]
    for (s = 1; s <= systems; s++) if (virtual(system_of[s])) printf " %16s", system_of[s] "/native"
    for (s = 1; s <= systems; s++) if (own_engine(system_of[s])) printf " %13s", system_of[s] "/tcg"
    printf "\n"
}

function print_row(work,    part, s, m, native, tcg) {
    split(work, part, SUBSEP)
    printf "%-18s", part[2] "." substr(part[1], 6)
    for (s = 1; s <= systems; s++) {
        m[s] = median(system_of[s] SUBSEP work)
        printf " %12s", seconds(m[s])
    }
    native = median("native" SUBSEP work)
    tcg = median("qemu-tcg" SUBSEP work)
    for (s = 1; s <= systems; s++) if (virtual(system_of[s])) printf " %16s", ratio("n" s, m[s], native)
    for (s = 1; s <= systems; s++) if (own_engine(system_of[s])) printf " %13s", ratio("t" s, m[s], tcg)
    if (work in wrong) {
        printf "  WRONG RESULT: %s differs", wrong[work]
        failed = 1
    }
    printf "\n"
}

function print_means(    s) {
    printf "%-18s", "geometric mean"
    for (s = 1; s <= systems; s++) printf " %12s", ""
    for (s = 1; s <= systems; s++) if (virtual(system_of[s])) printf " %16s", mean("n" s)
    for (s = 1; s <= systems; s++) if (own_engine(system_of[s])) printf " %13s", mean("t" s)
    printf "\n\n"
}

function print_systems(    s, b, r) {
    for (s = 1; s <= systems; s++) {
        b = median(system_of[s] SUBSEP "boot" SUBSEP "init")
        r = median(system_of[s] SUBSEP "rate" SUBSEP "instructions")
        if (b != "") printf "%-12s %8.2f s from start to the guest's first process\n", system_of[s], b
        if (r != "") printf "%-12s %8.1f M guest instructions per second in integer loops\n", system_of[s], r / 1e6
    }
}

# A JSON object with a member for each system that has a median of this.
function object(work, pattern,    s, m, members) {
    for (s = 1; s <= systems; s++) {
        m = median(system_of[s] SUBSEP work)
        if (m != "") members = members (members == "" ? "" : ", ") text(system_of[s]) ": " sprintf(pattern, m)
    }
    return "{" members "}"
}

function write_json(    w, part) {
    printf "{\n  \"date\": %s,\n  \"host\": {\"cpu\": %s, \"cpus\": %d, \"kernel\": %s},\n", \
        text(date), text(cpu), cpus, text(host) > json
    printf "  \"guest_kernel\": %s,\n  \"rounds\": %d,\n  \"milliseconds_per_workload\": %d,\n", \
        text(kernel), rounds, ms > json
    printf "  \"boot_seconds\": %s,\n", object("boot" SUBSEP "init", "%.3f") > json
    printf "  \"instructions_per_second\": %s,\n", object("rate" SUBSEP "instructions", "%.0f") > json
    printf "  \"workloads\": [" > json
    for (w = 1; w <= works; w++) {
        split(work_of[w], part, SUBSEP)
        printf "%s\n    {\"workload\": %s, \"bits\": %d, \"result\": %s, \"agree\": %s, \"seconds\": %s}", \
            (w > 1 ? "," : ""), text(part[2]), substr(part[1], 6), text(result[work_of[w]]), \
            (work_of[w] in wrong ? "false" : "true"), object(work_of[w], "%.9f") > json
    }
    printf "\n  ]\n}\n" > json
}

END {
    if (works) {
        print_head()
        for (w = 1; w <= works; w++) print_row(work_of[w])
        print_means()
        print_systems()
        write_json()
    }
    exit failed
}
