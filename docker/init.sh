#!/bin/sh
# Before the first start: make the secrets that are not there, and deal the sample graph to clients without one.
# Everything that exists is left as it is, so this may run before every start.
set -eu

secret() { # secret FILE: 256 random bits as hexadecimal digits
  [ -s "$1" ] && return
  python3 -c 'import secrets; print(secrets.token_hex(32))' >"$1.part"
  chmod 400 "$1.part"
  mv "$1.part" "$1"
  echo "made $1"
}

secret /secrets/clients/shared-key
secret /secrets/invitation/token
secret /secrets/operator/token

keys=/secrets/allowed-keys/keys
[ -e "$keys" ] || [ ! -w "${keys%/*}" ] || \
  echo '# Public keys that may join without the invitation token, one a line, with whose they are behind it.' >"$keys"
[ -e "$keys" ] || { echo "ALLOWED_KEYS_FOLDER in .env names a folder without a file keys"; exit 1; }

dealt=""
for client in client_0 client_1 client_2; do
  [ -e "/data/$client/train.tsv" ] && continue
  if [ -z "$dealt" ]; then
    dealt=$(mktemp -d)
    tripleherd split umls --clients 3 --out "$dealt"
  fi
  [ -w "/data/$client" ] || { echo "$client's data folder holds no train.tsv; check its DATA_ line in .env"; exit 1; }
  # train.tsv last: its presence says that the graph is complete.
  cp "$dealt/$client/valid.tsv" "$dealt/$client/test.tsv" "/data/$client/"
  cp "$dealt/$client/train.tsv" "/data/$client/train.tsv.part"
  mv "/data/$client/train.tsv.part" "/data/$client/train.tsv"
done
