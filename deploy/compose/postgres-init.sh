#!/bin/sh
# Run once by the image of PostgreSQL, when its folder is new. For each secret `postgres_NAME_password` a role NAME, which
# owns the schema NAME and sees no other's.
set -eu
cd "${SECRETS:-/run/secrets}"
# By standard input: what is on the command line, others can see.
{
  echo "REVOKE ALL ON DATABASE \"$POSTGRES_DB\" FROM PUBLIC;"
  echo "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
  for file in postgres_*_password; do
    name=${file#postgres_}
    name=${name%_password}
    echo "CREATE ROLE $name LOGIN PASSWORD '$(cat "$file")';"
    echo "GRANT CONNECT ON DATABASE \"$POSTGRES_DB\" TO $name;"
    echo "CREATE SCHEMA $name AUTHORIZATION $name;"
  done
} | psql -v ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
