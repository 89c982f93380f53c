#!/usr/bin/env bash
# The system in containers, used as the README says: start it, wait for the clients' tables, call /score and /round,
# start it a second time, reach the coordinator by HTTPS. Needs a Docker engine with Compose v2, and openssl; run from
# the repository's root.
set -eEuo pipefail

export COMPOSE_PROJECT_NAME=tripleherd-check SCORER_PORT=${SCORER_PORT:-18000} COORDINATOR_PORT=${COORDINATOR_PORT:-18001}
export BALANCER_PORT=${BALANCER_PORT:-18003} TLS_PORT=${TLS_PORT:-18443}
TLS_FOLDER=$(mktemp -d)
export TLS_FOLDER
CLIENTS="client-0 client-1 client-2"
scorer=http://127.0.0.1:$SCORER_PORT
coordinator=http://127.0.0.1:$COORDINATOR_PORT

say() { printf '\n== %s\n' "$*"; }
clean() { # nothing is left of the check but what the builder keeps
  docker compose --profile replicas --profile tls down --volumes --timeout 5 >/dev/null 2>&1 || true
  docker image rm --force "$COMPOSE_PROJECT_NAME"-{scorer,coordinator,client,balancer} >/dev/null 2>&1 || true
}
failed() { say "failed; the containers' last words"; docker compose ps --all; docker compose logs --tail 30; clean; }
trap failed ERR
trap 'rm -rf "$TLS_FOLDER"' EXIT
clean

wait_for_clients() {
  local client status words
  for client in $CLIENTS; do
    status=$(timeout 1200 docker wait "$(docker compose ps --all --quiet "$client")")
    words=$(docker compose logs --no-log-prefix "$client")
    tail -n 10 <<<"$words"
    [[ $status == 0 ]] || { echo "$client ended with status $status"; return 1; }
    holds "$words" fusion
  done
}

holds() { # holds TEXT PART: fails, and says so, where the text lacks the part
  [[ $1 == *"$2"* ]] || { echo "$2 is missing in: $1"; return 1; }
}

call() { # call URL [OPTION ...]: prints the reply
  curl --fail-with-body --silent --show-error "$@"
  echo
}

say "first start, without images"
make --silent wheels
docker compose up --detach --quiet-pull
wait_for_clients

say "POST /score"
reply=$(call "$scorer/score" --header 'Content-Type: application/json' \
  --data '{"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]}')
echo "$reply"
holds "$reply" '"scores":['

say "GET /round and GET /rounds"
operator=$(docker compose exec -T coordinator cat /secrets/operator/token)
reply=$(call "$coordinator/round" --header "Authorization: Bearer $operator")
echo "$reply"
holds "$reply" '"phase":"finished"'
reply=$(call "$coordinator/rounds" --header "Authorization: Bearer $operator")
for mode in isolation federation fusion; do holds "$reply" "\"mode\":\"$mode\",\"split\":\"test\",\"clients\":3"; done
for service in "$scorer" "$coordinator"; do call "$service/docs" >/dev/null; done

say "the page, by the link that the start printed"
link=$(docker compose logs --no-log-prefix start | grep --only-matching 'http://[^ ]*#pass=[^ ]*')
holds "$link" "$coordinator/#pass="
call "$coordinator/session" --cookie-jar "$TLS_FOLDER/cookies" --header 'Content-Type: application/json' \
  --data "{\"token\": \"${link#*#pass=}\"}"
reply=$(call "$coordinator/" --cookie "$TLS_FOLDER/cookies")
for part in client_0 client_1 client_2 Results fusion 'tokens a second'; do holds "$reply" "$part"; done
call "$coordinator/page/vendor/uplot.min.js" >/dev/null

say "second start: the finished training's rows again"
docker compose up --detach --no-build
wait_for_clients >/dev/null

say "POST /round: another training"
reply=$(call "$coordinator/round" --header "Authorization: Bearer $operator" --header 'Content-Type: application/json' \
  --data '{"interaction": "transe", "dim": 64, "clients": 3, "quorum": 3, "rounds": 4}')
echo "$reply"
holds "$reply" '"phase":"joining"'
docker compose up --detach --no-build
wait_for_clients

say "the coordinator by HTTPS, and a client that comes that way"
chmod 755 "$TLS_FOLDER"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tripleherd -addext 'subjectAltName=DNS:tls,IP:127.0.0.1' \
  -keyout "$TLS_FOLDER/key.pem" -out "$TLS_FOLDER/cert.pem" 2>/dev/null
docker compose --profile tls build --quiet tls
docker compose --profile tls up --detach --no-build --wait tls
reply=$(call "https://127.0.0.1:$TLS_PORT/health" --cacert "$TLS_FOLDER/cert.pem")
holds "$reply" '"status":"ok"'
reply=$(docker compose run --rm -T --no-deps --volume "$TLS_FOLDER:/tls:ro" --env SSL_CERT_FILE=/tls/cert.pem \
  --env TRAINER_COORDINATOR=https://tls:8443 client-0)
holds "$reply" fusion

say "two scorers behind one address, and one of them stops"
docker compose --profile replicas build --quiet balancer
docker compose --profile replicas up --detach --no-build --wait balancer
for stopped in "" replica-0; do
  [[ -z $stopped ]] || docker compose --profile replicas stop --timeout 5 "$stopped"
  reply=$(call "http://127.0.0.1:$BALANCER_PORT/score" --header 'Content-Type: application/json' \
    --data '{"triples": [{"head": "aspirin", "relation": "treats", "tail": "headache"}]}')
  holds "$reply" '"scores":['
done

say "what the images carry"
lacks() { # lacks IMAGE PACKAGE: fails where the image can import the package
  holds "$(docker run --rm --entrypoint python3 "$1" -c "import $2" 2>&1 || true)" "No module named '$2'"
}
lacks "$COMPOSE_PROJECT_NAME-coordinator" torch
lacks "$COMPOSE_PROJECT_NAME-coordinator" transformers
docker run --rm --entrypoint python3 "$COMPOSE_PROJECT_NAME-coordinator" -c "import psycopg, s3fs"
lacks "$COMPOSE_PROJECT_NAME-client" transformers

clean
say "the system in containers works"
