# shellcheck shell=bash
# What the scripts in this directory share. Sourced, not run:
#   source "${BASH_SOURCE[0]%/*}/lib.sh"
# Sets SCRIPTS, ROOT and TOOLS; gives die, need_cargo, python_tool, has_all, find_postgres, server_bin and process_start.

SCRIPTS=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=$(dirname -- "$SCRIPTS")
TOOLS=$ROOT/target/tools

# die MESSAGE [STATUS]: one line on stderr, and the end.
die() {
    printf '%s: %s\n' "scripts/$(basename -- "$0")" "$1" >&2
    exit "${2:-1}"
}

# need_cargo: stops without Rust, and installs what builds ISA-L; everything is built into ROOT/target, wherever we are
# called.
need_cargo() {
    type -P cargo >/dev/null || die "cargo is missing: install Rust 1.94.1 or later from https://rustup.rs (Debian: apt-get install rustup && rustup default stable)"
    type -P cc >/dev/null || die "a C compiler is missing: please install one (Debian: apt-get install gcc libc6-dev)"
    "$SCRIPTS/install" isal-tools
    export CARGO_TARGET_DIR=$ROOT/target
}

# python_tool NAME ARGUMENT...: runs a Python module that scripts/install put into TOOLS/NAME.
python_tool() {
    local module=${1//-/_}
    PYTHONPATH=$TOOLS/$1 python3 -B -m "$module" "${@:2}"
}

# has_all DIR PROGRAM...: are all these programs in DIR?
has_all() {
    local dir=$1 program
    shift
    for program in "$@"; do
        [[ -x $dir/$program ]] || return 1
    done
}

# find_postgres: sets FOUND to the directory with server and client programs of the newest PostgreSQL on this
# machine; status 1 without one. (A variable rather than stdout: a fork less.)
find_postgres() {
    local dir best=0 major
    FOUND=
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin; do
        has_all "$dir" initdb postgres pg_ctl pg_dump pg_dumpall psql || continue
        major=${dir%/bin}
        major=${major##*[!0-9]}
        if ((${major:-1} > best)); then
            best=${major:-1} FOUND=$dir
        fi
    done
    [[ -n $FOUND ]] && return
    dir=$(type -P initdb || true)
    dir=${dir%/*}
    [[ -n $dir ]] && has_all "$dir" postgres pg_ctl pg_dump pg_dumpall psql && FOUND=$dir
}

# server_bin MAJOR: sets FOUND to the directory with initdb, pg_ctl and postgres of this major version; status 1
# without one. An empty MAJOR means any.
server_bin() {
    if [[ -z $1 ]]; then
        find_postgres
    elif has_all "/usr/lib/postgresql/$1/bin" initdb postgres pg_ctl pg_dump psql; then
        FOUND=/usr/lib/postgresql/$1/bin
    else
        FOUND=$TOOLS/postgres-$1/bin
        has_all "$FOUND" initdb postgres pg_ctl
    fi
}

# process_start PID: sets STARTED to the start time of a living process (in ticks since boot). PID and STARTED together
# identify a process. Status 1 where it is gone or a zombie. One with only its first thread ended is a
# zombie by its state, too, but still listens where it did.
process_start() {
    local stat=
    local -a field
    STARTED=
    { read -rd '' stat <"/proc/$1/stat"; } 2>/dev/null || [[ -n $stat ]] || return 1
    read -ra field <<<"${stat##*) }"
    [[ ${field[0]} != [ZX] ]] || ((field[17] > 1)) || return 1
    # shellcheck disable=SC2034 # read by the callers
    STARTED=${field[19]}
}
