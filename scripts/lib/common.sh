# SPDX-License-Identifier: MIT OR Apache-2.0
# Helpers every script of the project starts with: progress, errors, the cache,
# clean-up, the tree. Sourced, never run:
#
#     . "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib/common.sh"
#
# Messages go to stderr, so that stdout carries only what was asked for.

[ -n "${TAS_COMMON_SH:-}" ] && return 0
TAS_COMMON_SH=1

set -euo pipefail
shopt -s inherit_errexit

tas_program=$(basename "$0")
tas_lib=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
tas_tree=$(dirname "$(dirname "$tas_lib")")
tas_started=$SECONDS

# Everything slow to make lives here, outside the tree.
tas_cache=${TAS_CACHE:-/var/cache/tas}

# --- Progress ---------------------------------------------------------------

# say TEXT: one line of progress, with the seconds since the start.
say() { printf '%s: [%3ds] %s\n' "$tas_program" $((SECONDS - tas_started)) "$*" >&2; }

# fail WHAT [WHY [TYPE]]: says what happened, why, what to type; exits 1.
fail() {
    printf '%s: error: %s\n' "$tas_program" "$1" >&2
    [ -z "${2:-}" ] || printf '  why:  %s\n' "$2" >&2
    [ -z "${3:-}" ] || printf '  type: %s\n' "$3" >&2
    [ "$BASH_SUBSHELL" = 0 ] || : >"$tas_failed"
    exit 1
}

# A command that fails where nobody expected it ends the script (errexit); it must not
# do so silently. fail() in a subshell has said all already and leaves a mark.
tas_failed=${TMPDIR:-/tmp}/tas-failed.$$
unexpected() {
    if [ -e "$tas_failed" ]; then
        rm -f "$tas_failed"
    else
        printf '%s: error: status %s from: %s (%s)\n' "$tas_program" "$1" "$2" "$3" >&2
    fi
}
set -E
watch_errors() { trap 'unexpected $? "$BASH_COMMAND" "${BASH_SOURCE[0]##*/}:$LINENO"' ERR; }
watch_errors

# step TITLE CMD…: runs CMD with its output kept in a log, a line at the start
# and at the end, and a sign of life every 20 s. On failure the log's end is shown
# and the script ends. CMD runs in a subshell, so it sets no variables.
step() {
    local title=$1 log start=$SECONDS code ticker
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/tas-step.XXXXXX")
    say "$title …"
    (while sleep 20; do say "$title … $((SECONDS - start)) s, $(wc -l <"$log") lines"; done) &
    ticker=$!
    # Not "CMD || code=$?": that would switch off errexit inside CMD when it is a function.
    set +e
    trap - ERR
    (watch_errors && set -e && "$@") >"$log" 2>&1 </dev/null
    code=$?
    set -e
    watch_errors
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    if [ "$code" != 0 ]; then
        tail -n "${TAS_LOG_LINES:-40}" "$log" >&2
        fail "$title failed with status $code" "the last lines of its output are above" "less $log"
    fi
    rm -f "$log"
    say "$title: done in $((SECONDS - start)) s"
}

# --- Clean-up ---------------------------------------------------------------

tas_cleanups=()
tas_cleanups_of=0

# at_exit CMD…: runs CMD when the script ends, however it ends, last added first. In a
# subshell: when that ends, and only what the subshell itself has added.
at_exit() {
    [ "$tas_cleanups_of" = "$BASH_SUBSHELL" ] || tas_cleanups=()
    tas_cleanups_of=$BASH_SUBSHELL
    tas_cleanups+=("$(printf '%q ' "$@")")
    trap run_cleanups EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
}

run_cleanups() {
    local code=$? i
    trap - EXIT
    set +e
    for ((i = ${#tas_cleanups[@]} - 1; i >= 0; i--)); do eval "${tas_cleanups[i]}"; done
    exit "$code"
}

# make_temp_dir: prints a new directory that is removed at the end. The caller's
# shell must be the script itself, so the name is returned in $REPLY.
make_temp_dir() {
    REPLY=$(mktemp -d "${TMPDIR:-/tmp}/tas.XXXXXX")
    at_exit rm -rf "$REPLY"
}

# --- Conditions -------------------------------------------------------------

need_root() {
    [ "$(id -u)" = 0 ] || fail "this needs root" "${1:-it mounts file systems and installs packages}" \
        "sudo $0 ${tas_arguments:-}"
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- Cache ------------------------------------------------------------------

# key_of TEXT…: 16 hexadecimal digits that name these inputs.
key_of() { printf '%s\n' "$@" | sha256sum | cut -c1-16; }

# with_lock NAME CMD…: one process at a time per NAME, over all scripts. The lock
# is not inherited by daemons that CMD leaves behind, as they get no descriptor 9.
with_lock() {
    local name=$1
    shift
    mkdir -p "$tas_cache/locks"
    (
        if ! flock -n 9; then
            say "waiting for another $tas_program ($name)"
            flock 9
        fi
        "$@"
    ) 9>"$tas_cache/locks/$name"
}

# cached DIR CMD…: makes DIR by CMD, which gets the name of an empty directory to
# fill as its last argument. DIR appears only when CMD succeeded, so a cache is
# whole or absent. Its modification time is that of its last use.
cached() {
    local dir=$1
    shift
    with_lock "$(basename "$dir")" cached_locked "$dir" "$@"
}

cached_locked() {
    local dir=$1
    shift
    if [ -d "$dir" ]; then
        touch "$dir"
        return
    fi
    rm -rf --one-file-system "$dir.part"
    mkdir -p "$dir.part"
    "$@" "$dir.part"
    mv "$dir.part" "$dir"
}

# keep_newest PATTERN COUNT: removes all but the COUNT last used caches of a kind.
keep_newest() {
    find "$tas_cache" -mindepth 1 -maxdepth 1 -type d -name "$1" ! -name '*.part' -printf '%T@ %p\n' |
        sort -rn | tail -n +$(($2 + 1)) | cut -d' ' -f2- | while IFS= read -r old; do
        say "removing the older cache $old"
        rm -rf --one-file-system "$old"
    done
}
