#!/bin/bash
# Copies versions from SOURCE to MODELS: the newest KEEP, and those that the file
# MODELS_CONFIG names. An object store has no rename, so a version counts as whole when
# its listing is the same as one round ago; here it appears by one rename.
set -uo pipefail
: "${SOURCE:?}" "${MODELS:?}" "${MODELS_CONFIG:?}" "${KEEP:=3}" "${EVERY_S:=30}"
state=$(mktemp -d)

versions() { # in the bucket, oldest first
    aws s3 ls "$SOURCE/" | while read -r kind name _; do
        if [[ $kind == PRE && $name =~ ^[0-9]+/$ ]]; then echo "${name%/}"; fi
    done | sort -n
}

wanted() {
    local there named
    there=$(versions) || return 1
    named=$(grep -v '^ *#' "$MODELS_CONFIG" | grep -oE '[0-9]+')
    {
        tail -n "$KEEP" <<<"$there"
        grep -xF "${named:-none}" <<<"$there"
    } | sort -nu
}

copy() { # VERSION
    local partial="$MODELS/.$1.partial"
    rm -rf "$partial"
    aws s3 cp --recursive --only-show-errors "$SOURCE/$1/" "$partial/" || return 1
    mv "$partial" "$MODELS/$1" || return 1
    echo "Version $1 is here."
}

round() {
    local keep version old
    keep=$(wanted)
    [[ -n $keep ]] || return 1
    for version in $keep; do
        if [[ -e $MODELS/$version ]]; then continue; fi
        aws s3 ls --recursive "$SOURCE/$version/" >"$state/new" || return 1
        if cmp -s "$state/new" "$state/$version" && grep -q saved_model.pb "$state/new"
        then
            copy "$version" || return 1
        fi
        mv "$state/new" "$state/$version"
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
