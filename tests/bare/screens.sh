# Helpers for tests that look at a guest's screen. Sourced after tap.sh, with $engine set. A guest runs until its screen is as
# it should be: nothing depends on how fast it is, up to a limit: 205 seconds, times $patience if that is set.
gcc -O2 -Wall -Wextra -o "$work/same" tests/bare/same.c -lpng || fail "same.c does not build"

# watch SUFFIX CHECK RINGER'S OPTIONS...: runs until CHECK FILE is true of a screenshot, $shown the newest
watch() {
    local suffix=$1 check=$2 t options=() pid seen= times=${patience:-1}
    shift 2
    rm -f "$work"/screen-*
    # Each half second at first, later after a fourteenth of the time so far; ringer takes at most 64.
    for t in $(awk "BEGIN {for (t = 0.5; t < 205; t += t < 7 ? 0.5 : t / 14) print t * $times}"); do
        options+=(--screenshot "$work/screen-$t.$suffix@$t")
    done
    "$RINGER" run --engine "$engine" --serial none "${options[@]}" \
        --timeout $((205 * times)) "$@" > "$work/out" 2>&1 < /dev/null &
    pid=$!
    shown=/dev/null
    while [ -z "$seen" ]; do
        kill -0 $pid 2> /dev/null || break
        sleep 0.3
        for t in $(ls -tr "$work"/screen-*."$suffix" 2> /dev/null); do
            shown=$t
            $check "$t" > "$work/check" 2>&1 && seen=yes && break
            rm -f "$work/before"
            mv "$t" "$work/before" && shown=$work/before
        done
    done
    kill $pid 2> /dev/null
    wait $pid
    [ -n "$seen" ]
}

# says NAME REGEX OPTIONS...: the text screen has a line that matches, at some time
says() {
    local name=$1 regex=$2
    shift 2
    matches() { grep -qE -- "$regex" "$1"; }
    watch txt matches "$@" && pass "$name" && return
    fail "$name: the last screen does not match '$regex':"
    sed 's/^/#   /' "$shown" "$work/out"
}

# looks NAME REFERENCE PERCENT OPTIONS...: so much of the screen is as in the picture REFERENCE, at some time
looks() {
    local name=$1 reference=$2 percent=$3
    shift 3
    same() { "$work/same" "$reference" "$1" "$percent"; }
    watch png same "$@" && pass "$name" && return
    fail "$name: not the picture $reference, but: $(cat "$work/check" "$work/out")"
}
