#!/bin/bash
# Copies versions from SOURCE to MODELS: the newest KEEP, and those in MODELS_CONFIG. An
# object store has no rename, so a version is complete if it has all files of a SavedModel
# and its listing is unchanged since the last round and after the copy. Here it appears by
# one rename.
set -uo pipefail
: "${SOURCE:?}" "${MODELS:?}" "${MODELS_CONFIG:?}" "${KEEP:=3}" "${EVERY_S:=30}"
declare -A listings # {version: listing of the last round}

versions() { # in the bucket, oldest first
    aws s3 ls "$SOURCE/" | while read -r kind name _; do
        if [[ $kind == PRE && $name =~ ^[0-9]+/$ ]]; then echo "${name%/}"; fi
    done | sort -n
}

selected() {
    local available named
    available=$(versions) || return 1
    named=$(grep -v '^ *#' "$MODELS_CONFIG" | grep -oE '[0-9]+')
    {
        tail -n "$KEEP" <<<"$available"
        grep -xF "${named:-none}" <<<"$available"
    } | sort -nu
}

listing() { # VERSION
    aws s3 ls --recursive "$SOURCE/$1/"
}

is_complete() { # VERSION LISTING, of which each line ends in a key of the bucket
    local name
    for name in saved_model.pb variables/variables.index 'variables/variables.data-*'; do
        # shellcheck disable=SC2053 # a pattern
        [[ $2$'\n' == */"$1"/$name$'\n'* ]] || return 1
    done
}

copy() { # VERSION LISTING
    local partial="$MODELS/.$1.partial" now
    rm -rf "$partial"
    aws s3 cp --recursive --only-show-errors "$SOURCE/$1/" "$partial/" || return 1
    now=$(listing "$1") || return 1
    if [[ $now != "$2" ]]; then # changed during the copy: try again later
        rm -rf "$partial"
        return 0
    fi
    mv "$partial" "$MODELS/$1" || return 1
    echo "Version $1 is here."
}

round() {
    local keep version old now
    keep=$(selected)
    [[ -n $keep ]] || return 1
    for version in $keep; do
        if [[ -e $MODELS/$version ]]; then continue; fi
        now=$(listing "$version") || return 1
        if [[ $now == "${listings[$version]-}" ]] && is_complete "$version" "$now"; then
            copy "$version" "$now" || return 1
        fi
        listings[$version]=$now
    done
    for old in "$MODELS"/*/; do
        old=$(basename "$old")
        if [[ $old =~ ^[0-9]+$ ]] && ! grep -qx "$old" <<<"$keep"; then
            rm -rf "${MODELS:?}/$old"
        fi
    done
}

mkdir -p "$MODELS"
for ((number = 1; ; number++)); do
    round || echo "$SOURCE cannot be read; next try in $EVERY_S s." >&2
    if ((number == ${ROUNDS:-0})); then break; fi
    sleep "$EVERY_S"
done
