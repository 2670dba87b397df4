#!/bin/sh
# Settings that are secret come from files: TONGTU_SERVE_STORE_FILE=/run/secrets/store_url gives TONGTU_SERVE_STORE, and so for every setting.
set -eu
for name in $(env | sed -n 's/^\(TONGTU_SERVE_[A-Z_]*\)_FILE=.*/\1/p'); do
    eval "file=\${${name}_FILE}"
    if [ ! -r "$file" ]; then
        echo "error: ${name}_FILE names $file, which cannot be read: check the secret and its permissions" >&2
        exit 2
    fi
    export "$name=$(cat "$file")"
    unset "${name}_FILE"
done
exec "$@"
