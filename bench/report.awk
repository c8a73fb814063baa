# Turns bench/run's raw lines "ROUND SYSTEM KERNEL WIDTH KIND NAME SECONDS RESULT" into the tables and the JSON file.
# Medians over rounds; ratios to the machine itself and to QEMU's TCG; geometric means of the ratios by kind; and what is
# asked of an engine. A result that differs between systems, or one that a system did not give, is an error, and the
# exit status is 1. A "guest" here is a kernel and a width; the machine itself has the kernel "-".

function seconds(x) { return x == "" ? "-" : x < 0.1 ? sprintf("%.3f ms", x * 1000) : sprintf("%.3f s", x) }
function number(x, otherwise) { return x == "" ? otherwise : sprintf("%.2f", x) }
function virtual(name) { return name != "native" }
function own_engine(name) { return name !~ /^(native|qemu-tcg)$/ }

NF == 8 && $7 + 0 > 0 {
    guest = $3 SUBSEP $4
    width_known[$4]
    key = $2 SUBSEP guest SUBSEP $6
    value[key, ++count[key]] = $7 + 0
    if (!($2 in known)) { known[$2]; system_of[++systems] = $2 }
    if (!virtual($2)) native_bits[$4]
    if (virtual($2) && !(guest in guest_known)) { guest_known[guest]; guest_of[++guests] = guest }
    if ($5 == "boot" || $5 == "rate") next
    if (!(($4, $6) in result)) result[$4, $6] = $8
    else if (result[$4, $6] != $8) wrong[$4, $6] = $2
    if (!($6 in kind_of)) { kind_of[$6] = $5; work_of[++works] = $6 }
    if (!($5 in kind_known)) { kind_known[$5]; kind_name[++kinds] = $5 }
    next
}
{ print "bench: not understood: " $0; failed = 1 }

# The median time of a workload for a system in a guest ("-" and a width, if only the machine itself was measured), or, with
# `best` set, that of the fastest round.
function time_of(who, guest, work,    part, key) {
    split(guest, part, SUBSEP)
    key = who SUBSEP (virtual(who) ? part[1] : "-") SUBSEP part[2] SUBSEP work
    return best ? fastest(key) : median(key)
}

function fastest(key,    k, m) {
    for (k = 1; k <= count[key]; k++)
        if (m == "" || value[key, k] < m) m = value[key, k]
    return m
}

function ratio(a, b) { return a == "" || b == "" || b <= 0 ? "" : a / b }

# The geometric mean of a system's times in a guest divided by another's, over the workloads of a kind ("": all).
function mean(who, other, guest, kind,    w, r, n, logs) {
    for (w = 1; w <= works; w++) {
        if (kind != "" && kind_of[work_of[w]] != kind) continue
        r = ratio(time_of(who, guest, work_of[w]), time_of(other, guest, work_of[w]))
        if (r == "") continue
        logs += log(r)
        n++
    }
    return n ? exp(logs / n) : ""
}

function guest_name(guest,    part) {
    split(guest, part, SUBSEP)
    return part[2] "-bit programs" (part[1] == "-" ? "" : ", kernel " part[1])
}

# --- the table of a guest ---

function print_head(guest,    s) {
    printf "\n%s\n%-18s", guest_name(guest), "workload"
    for (s = 1; s <= systems; s++) printf " %12s", system_of[s]
    for (s = 1; s <= systems; s++) if (virtual(system_of[s])) printf " %16s", system_of[s] "/native"
    for (s = 1; s <= systems; s++) if (own_engine(system_of[s])) printf " %13s", system_of[s] "/tcg"
    printf "\n"
}

# Is this a machine that runs no programs of that width itself? (bench/run says so.)
function left_out(who, bits) { return who == "native" && !(bits in native_bits) }

function print_row(guest, work,    part, s, m, missing, native, tcg) {
    split(guest, part, SUBSEP)
    printf "%-18s", work
    for (s = 1; s <= systems; s++) {
        m[s] = time_of(system_of[s], guest, work)
        if (m[s] == "" && !left_out(system_of[s], part[2])) missing = missing " " system_of[s]
        printf " %12s", seconds(m[s])
    }
    native = time_of("native", guest, work)
    tcg = time_of("qemu-tcg", guest, work)
    for (s = 1; s <= systems; s++)
        if (virtual(system_of[s])) printf " %16s", number(ratio(m[s], native), "-")
    for (s = 1; s <= systems; s++)
        if (own_engine(system_of[s])) printf " %13s", number(ratio(m[s], tcg), "-")
    if ((part[2], work) in wrong) printf "  WRONG RESULT: %s differs", wrong[part[2], work]
    if (missing != "") printf "  MISSING:%s", missing
    if (missing != "" || (part[2], work) in wrong) failed = 1
    printf "\n"
}

function print_means(guest, kind,    s) {
    printf "%-18s", "= " (kind == "" ? "all" : kind)
    for (s = 1; s <= systems; s++) printf " %12s", ""
    for (s = 1; s <= systems; s++)
        if (virtual(system_of[s])) printf " %16s", number(mean(system_of[s], "native", guest, kind), "-")
    for (s = 1; s <= systems; s++)
        if (own_engine(system_of[s])) printf " %13s", number(mean(system_of[s], "qemu-tcg", guest, kind), "-")
    printf "\n"
}

function print_guest(guest,    k, w) {
    print_head(guest)
    for (k = 1; k <= kinds; k++) {
        for (w = 1; w <= works; w++)
            if (kind_of[work_of[w]] == kind_name[k]) print_row(guest, work_of[w])
        print_means(guest, kind_name[k])
    }
    print_means(guest, "")
    print_boot(guest)
}

function print_boot(guest,    s, b, r) {
    for (s = 1; s <= systems; s++) {
        b = time_of(system_of[s], guest, "init")
        r = time_of(system_of[s], guest, "instructions")
        if (b != "") printf "%-12s %8.2f s from start to the guest's first process\n", system_of[s], b
        if (r != "") printf "%-12s %8.1f M guest instructions per second in integer loops\n", system_of[s], r / 1e6
    }
}

# --- targets: a measured ratio that is to be at most, or at least, so much. By medians; "at best" is the same by the
# --- fastest round of each system: on a busy host the medians are of rounds that had different machines ---

function target(engine, guest, what, measured, relation, bound, program,    met, part) {
    if (best) {
        of_best[engine, guest, what] = measured
        return
    }
    split(guest, part, SUBSEP)
    met = measured == "" ? "not measured" : \
        (relation == "at most" ? measured <= bound : measured >= bound) ? "met" : "not met"
    printf "%-10s %-10s %5s  %-40s %9s %9s  %-12s  %s%s\n", engine, part[1], part[2], what, number(measured, "-"), \
        number(of_best[engine, guest, what], "-"), relation " " sprintf("%.1f", bound), met, (program == "" ? "" : " (" program ")")
    target_json[++targets] = sprintf("{\"engine\": %s, \"kernel\": %s, \"bits\": %d, \"target\": %s, " \
        "\"measured\": %s, \"best\": %s, \"relation\": %s, \"bound\": %.1f, \"met\": %s%s}", text(engine), text(part[1]), part[2], \
        text(what), (measured == "" ? "null" : sprintf("%.3f", measured)), \
        (measured == "" ? "null" : sprintf("%.3f", of_best[engine, guest, what])), text(relation), bound, \
        (measured == "" ? "null" : met == "met" ? "true" : "false"), \
        (program == "" ? "" : ", \"program\": " text(program)))
}

# How many times faster than TCG; of the workload that is the slowest by that measure if work is "".
function faster(engine, guest, work,    w, r, least) {
    if (work != "")
        return ratio(time_of("qemu-tcg", guest, work), time_of(engine, guest, work))
    slowest_work = ""
    least = ""
    for (w = 1; w <= works; w++) {
        r = faster(engine, guest, work_of[w])
        if (r == "" || (least != "" && r >= least)) continue
        least = r
        slowest_work = work_of[w]
    }
    return least
}

function engine_targets(engine, guest,    part, wide, each, n, i, worst) {
    split(guest, part, SUBSEP)
    wide = part[2] == 64
    target(engine, guest, "integer: times native", mean(engine, "native", guest, "integer"), "at most", wide ? 2.2 : 2.0)
    target(engine, guest, "integer: times faster than TCG", mean("qemu-tcg", engine, guest, "integer"), "at least", 3)
    target(engine, guest, "float: times native", mean(engine, "native", guest, "float"), "at most", wide ? 2.2 : 2.0)
    target(engine, guest, "memory: times native", mean(engine, "native", guest, "memory"), "at most", 1.8)
    n = split("getppid touch fork vfork-exec pipe", each, " ")
    for (i = 1; i <= n; i++)
        target(engine, guest, each[i] ": times faster than TCG", faster(engine, guest, each[i]), "at least", 1.5)
    target(engine, guest, "boot to init: times faster than TCG", faster(engine, guest, "init"), "at least", 1)
    worst = faster(engine, guest, "")
    target(engine, guest, "worst program: times faster than TCG", worst, "at least", 1, slowest_work)
}

function print_targets(    s, g) {
    for (s = 1; s <= systems; s++) {
        if (!own_engine(system_of[s])) continue
        printf "\n%-10s %-10s %5s  %-40s %9s %9s  %s\n", "engine", "kernel", "bits", "target", "measured", "at best", "asked"
        for (g = 1; g <= guests; g++) {
            best = 1
            engine_targets(system_of[s], guest_of[g])
            best = 0
            engine_targets(system_of[s], guest_of[g])
        }
    }
}

# --- JSON ---

# An object with a member for each system that has this in a guest.
function object(guest, work, pattern,    s, m, members) {
    for (s = 1; s <= systems; s++) {
        m = time_of(system_of[s], guest, work)
        if (m != "") members = members (members == "" ? "" : ", ") text(system_of[s]) ": " sprintf(pattern, m)
    }
    return "{" members "}"
}

# The same of every guest, as members of a list.
function by_guest(field, work, pattern,    g, part, list) {
    for (g = 1; g <= guests; g++) {
        split(guest_of[g], part, SUBSEP)
        list = list sprintf("%s{\"kernel\": %s, \"bits\": %d, %s: %s}", (g > 1 ? ", " : ""), text(part[1]), part[2], \
            text(field), object(guest_of[g], work, pattern))
    }
    return "[" list "]"
}

# Geometric means: a system's times divided by another's, by kind.
function mean_json(guest, kind, other,    s, m, members) {
    for (s = 1; s <= systems; s++) {
        if (system_of[s] == other || !virtual(system_of[s])) continue
        m = mean(system_of[s], other, guest, kind)
        if (m != "") members = members (members == "" ? "" : ", ") text(system_of[s]) ": " sprintf("%.3f", m)
    }
    return "{" members "}"
}

function write_means(    g, k, part, comma) {
    printf "  \"means\": [" > json
    for (g = 1; g <= guests; g++)
        for (k = 1; k <= kinds; k++) {
            split(guest_of[g], part, SUBSEP)
            printf "%s\n    {\"kernel\": %s, \"bits\": %d, \"kind\": %s, \"to_native\": %s, \"to_tcg\": %s}", comma, \
                text(part[1]), part[2], text(kind_name[k]), mean_json(guest_of[g], kind_name[k], "native"), \
                mean_json(guest_of[g], kind_name[k], "qemu-tcg") > json
            comma = ","
        }
    printf "\n  ],\n" > json
}

function write_workloads(    g, w, part, comma) {
    printf "  \"workloads\": [" > json
    for (g = 1; g <= guests; g++)
        for (w = 1; w <= works; w++) {
            split(guest_of[g], part, SUBSEP)
            printf "%s\n    {\"workload\": %s, \"kind\": %s, \"kernel\": %s, \"bits\": %d, \"result\": %s, " \
                "\"agree\": %s, \"seconds\": %s}", comma, text(work_of[w]), text(kind_of[work_of[w]]), text(part[1]), \
                part[2], text(result[part[2], work_of[w]]), ((part[2], work_of[w]) in wrong ? "false" : "true"), \
                object(guest_of[g], work_of[w], "%.9f") > json
            comma = ","
        }
    printf "\n  ]\n}\n" > json
}

function write_json(    n, i, package, part) {
    printf "{\n  \"date\": %s,\n  \"host\": {\"cpu\": %s, \"cpus\": %d, \"kernel\": %s},\n  \"guest_kernels\": {", \
        text(date), text(cpu), cpus, text(host) > json
    n = split(packages, package, " ")
    for (i = 1; i <= n; i++) {
        split(package[i], part, "=")
        printf "%s%s: %s", (i > 1 ? ", " : ""), text(part[1]), text(part[2]) > json
    }
    printf "},\n  \"rounds\": %d,\n  \"milliseconds_per_workload\": %d,\n", rounds, ms > json
    printf "  \"boot\": %s,\n", by_guest("seconds", "init", "%.3f") > json
    printf "  \"rate\": %s,\n", by_guest("instructions_per_second", "instructions", "%.0f") > json
    printf "  \"targets\": [" > json
    for (i = 1; i <= targets; i++) printf "%s\n    %s", (i > 1 ? "," : ""), target_json[i] > json
    printf "\n  ],\n" > json
    write_means()
    write_workloads()
}

END {
    if (!guests) # only the machine itself
        for (w in width_known) guest_of[++guests] = "-" SUBSEP w
    for (g = 1; g <= guests; g++) print_guest(guest_of[g])
    print_targets()
    print ""
    write_json()
    exit failed
}
