# Turns bench/disk's raw lines "ROUND SYSTEM NAME VALUE" into a table and the JSON file. Values are megabytes per second, but
# of "menu", microseconds. Medians over rounds, and ringer's against the better one of QEMU's two: above 1, ringer is faster.

function shown(name, x) { return x == "" ? "-" : name == "menu" ? sprintf("%.2f s", x / 1e6) : sprintf("%.1f", x) }

NF == 4 && $4 > 0 {
    value[$2, $3, ++count[$2, $3]] = $4 + 0
    if (!($3 in known)) { known[$3]; names[++n] = $3 }
}

END {
    m = split(systems, who, " ")
    printf "Disks, megabytes per second (menu: seconds from start to GRUB's menu), medians of %d\n%-16s", rounds, ""
    for (s = 1; s <= m; s++)
        printf "%14s", who[s]
    print "   to the better QEMU"
    printf "{\n  \"date\": %s,\n  \"host\": {\"cpu\": %s, \"cpus\": %d, \"kernel\": %s},\n", text(date), text(cpu), cpus, text(host) > json
    printf "  \"rounds\": %d, \"milliseconds_per_measurement\": %d,\n  \"disk\": [", rounds, ms > json
    for (i = 1; i <= n; i++) {
        name = names[i]
        best = ""
        printf "%-16s", name
        printf "%s\n    {\"name\": %s, \"unit\": %s, \"median\": {", (i > 1 ? "," : ""), text(name), name == "menu" ? "\"us\"" : "\"MB/s\"" > json
        for (s = 1; s <= m; s++) {
            x = median(who[s] SUBSEP name)
            printf "%14s", shown(name, x)
            printf "%s%s: %s", (s > 1 ? ", " : ""), text(who[s]), (x == "" ? "null" : x) > json
            if (who[s] != "ringer" && x != "" && (best == "" || (name == "menu" ? x < best : x > best)))
                best = x
        }
        own = median("ringer" SUBSEP name)
        ratio = own == "" || best == "" ? "" : name == "menu" ? best / own : own / best
        printf "%9s%s\n", (ratio == "" ? "-" : sprintf("%.2f", ratio)), (ratio == "" || ratio >= 1 ? "" : "  slower")
        printf "}, \"to_best_qemu\": %s}", (ratio == "" ? "null" : sprintf("%.4f", ratio)) > json
    }
    print "\n  ]\n}" > json
}
