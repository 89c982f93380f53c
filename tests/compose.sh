#!/usr/bin/env bash
# The system in containers, used as the README says: start it, wait for the clients' tables, call /score and /round,
# start it a second time. Needs a Docker engine with Compose v2; run from the repository's root.
set -euo pipefail

export COMPOSE_PROJECT_NAME=tripleherd-check SCORER_PORT=${SCORER_PORT:-18000} COORDINATOR_PORT=${COORDINATOR_PORT:-18001}
CLIENTS="client-0 client-1 client-2"
scorer=http://127.0.0.1:$SCORER_PORT
coordinator=http://127.0.0.1:$COORDINATOR_PORT

say() { printf '\n== %s\n' "$*"; }
clean() { docker compose down --volumes --timeout 5 >/dev/null 2>&1 || true; }
failed() { say "failed; the containers' last words"; docker compose ps --all; docker compose logs --tail 30; clean; }
trap failed ERR
clean

wait_for_clients() {
  local client status
  for client in $CLIENTS; do
    status=$(timeout 1200 docker wait "$(docker compose ps --all --quiet "$client")")
    [[ $status == 0 ]] || { echo "$client ended with status $status"; return 1; }
    docker compose logs --no-log-prefix "$client" | tail -n 12
    docker compose logs --no-log-prefix "$client" | grep -q 'fusion'
  done
}

say "build"
make --silent wheels
docker compose build --quiet

say "first start"
docker compose up --detach --no-build
wait_for_clients

say "POST /score"
curl --fail --silent --show-error "$scorer/score" --header 'Content-Type: application/json' \
  --data '{"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]}' | tee /dev/stderr | grep -q '"scores"'

say "GET /round and GET /rounds"
operator=$(docker compose exec -T coordinator cat /secrets/operator/token)
curl --fail --silent --show-error "$coordinator/round" --header "Authorization: Bearer $operator" |
  tee /dev/stderr | grep -q '"phase":"finished"'
curl --fail --silent --show-error "$coordinator/rounds?limit=1" --header "Authorization: Bearer $operator" |
  grep -q '"mode":"fusion"'
for service in "$scorer" "$coordinator"; do curl --fail --silent --output /dev/null "$service/docs"; done

say "second start: the finished training's rows again"
docker compose up --detach --no-build
wait_for_clients >/dev/null

say "POST /round: another training"
curl --fail --silent --show-error "$coordinator/round" --header "Authorization: Bearer $operator" \
  --header 'Content-Type: application/json' \
  --data '{"interaction": "transe", "dim": 64, "clients": 3, "quorum": 3, "rounds": 4}' | tee /dev/stderr | grep -q '"training"'
docker compose up --detach --no-build
wait_for_clients

say "what the images carry"
lacks() { # lacks IMAGE PACKAGE: fails where the image can import the package
  if docker run --rm --entrypoint python3 "$1" -c "import $2" 2>/dev/null; then echo "$1 carries $2"; return 1; fi
}
lacks tripleherd-coordinator torch
lacks tripleherd-coordinator transformers
lacks tripleherd-client transformers

clean
say "the system in containers works"
