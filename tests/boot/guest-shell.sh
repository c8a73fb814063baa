# Boots Linux and types commands into its shell through a pipe. Sourced, after tap.sh, by scripts that take the
# engine as their argument.
engine=${1:-interp}
need_engine "$engine" "$(basename "$0") on $engine"

# guest_append: what all command lines here have. The kernel's tests of its cryptography would take seconds.
guest_append="console=ttyS0 quiet panic=-1 cryptomgr.notests"

# guest NAME KERNEL COMMANDS APPEND [ringer options]: runs it on the engine; leaves $work/NAME (the console),
# $work/NAME.err and $work/NAME.status
guest() {
    local name=$1 kernel=$2 commands=$3 append=$4 initrd=build/guest/initrd-32.gz
    shift 4
    [ "$kernel" = amd64 ] && initrd=build/guest/initrd-64.gz
    printf '%b' "$commands" |
        "$RINGER" run --engine "$engine" --kernel "build/guest/vmlinuz-$kernel" --initrd $initrd --mem 256M --timeout 170 \
            --append "$guest_append $append" "$@" > "$work/$name" 2> "$work/$name.err"
    echo $? > "$work/$name.status"
    sed -i 's/\r$//' "$work/$name"
}

# Guests run side by side, as many as there are processors: start_guest, and wait_guests for all.
start_guest() {
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    guest "$@" &
}
wait_guests() { wait; }

# ended NAME STATUS
ended() {
    is "$1: exit status" "$2" "$(cat "$work/$1.status")"
    [ "$2" = "$(cat "$work/$1.status")" ] || tail -n 20 "$work/$1" "$work/$1.err" | sed 's/^/#   /'
}
