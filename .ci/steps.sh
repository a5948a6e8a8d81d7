# Shared by .ci/run and .ci/full: runs steps, prints each with its time, and a summary at the end.
# Sourced, not run. A failed step does not stop the others; `summary` fails when any did.

names=()
outcomes=()
failures=0

# step NAME COMMAND…
step() {
    local name=$1 begin=$SECONDS outcome=ok code
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    # Not as a condition (`if`, `||`): a function would go on behind a command of it that failed.
    set +e
    (
        set -e
        "$@"
    ) </dev/null
    code=$?
    set -e
    if [ $code -ne 0 ]; then
        outcome="FAILED (exit $code)"
        failures=$((failures + 1))
    fi
    names+=("$name")
    outcomes+=("$outcome, $((SECONDS - begin)) s")
    printf '<== %s: %s\n' "$name" "${outcomes[-1]}"
}

# skip NAME WHY: a step that can't run here; it stands in the summary.
skip() {
    names+=("$1")
    outcomes+=("not run: $2")
    printf '\n==> %s: not run: %s\n' "$1" "$2"
}

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || {
        echo "$1 is missing; on Debian: apt-get install $2" >&2
        exit 1
    }
}

summary() {
    local index
    printf '\n%s after %s s\n' "$1" "$SECONDS"
    for index in "${!names[@]}"; do
        printf '  %-28s %s\n' "${names[$index]}" "${outcomes[$index]}"
    done
    echo "${#names[@]} steps, $failures of them failed"
    [ "$failures" -eq 0 ]
}
