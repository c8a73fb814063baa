# Helpers for shell tests: TAP lines and running ringer. Sourced.
set -u
cd "$(dirname "$0")/../.." || exit 1
RINGER=${RINGER:-build/ringer}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

pass() { echo "ok $*"; }
fail() { echo "not ok $*"; failures=$((failures + 1)); }
skip() { echo "ok $1 # SKIP $2"; }

# is NAME EXPECTED ACTUAL
is() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: expected '$2', got '$3'"; fi
}

# has NAME FILE REGEX: the file has a line that matches
has() {
    if grep -qaE -- "$3" "$2"; then
        pass "$1"
    else
        fail "$1: no line matches '$3' in:"
        tail -n 25 "$2" | sed 's/^/#   /'
    fi
}

# usage_error NAME REGEX ARGS...: ringer ends with status 2 and exactly one line on stderr, which matches
usage_error() {
    local name=$1 regex=$2 status
    shift 2
    timeout 60 "$RINGER" "$@" > "$work/out" 2> "$work/err" < /dev/null
    status=$?
    if [ $status -eq 2 ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -qE -- "$regex" "$work/err"; then
        pass "$name"
    else
        fail "$name: status $status, stderr: $(head -c 300 "$work/err")"
    fi
}

# need_engine ENGINE NAME: the whole test is skipped if the engine does not work here
need_engine() {
    "$RINGER" engines 2> /dev/null | grep -qE "^$1 +yes" && return
    skip "$2" "engine $1 does not work here"
    exit 0
}

finish() { [ $failures -eq 0 ]; exit; }
