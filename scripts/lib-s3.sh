# shellcheck shell=bash
# The S3 part of scripts/server (SeaweedFS); sourced by it. Uses its DIR, PORT and TLS.

# identity NAME ACCESS SECRET ACTION...: one user of the server, as JSON.
identity() {
    local name=$1 access=$2 secret=$3 actions
    shift 3
    actions=$(printf '"%s",' "$@")
    printf '{"name":"%s","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":[%s]}' \
        "$name" "$access" "$secret" "${actions%,}"
}

# write_identities: the three users of the server; sets their keys.
write_identities() {
    ADMIN=AK$(secret | head -c 18) ADMIN_SECRET=$(secret)
    READER=AK$(secret | head -c 18) READER_SECRET=$(secret)
    WRITER=AK$(secret | head -c 18) WRITER_SECRET=$(secret)
    (
        umask 077
        printf '{"identities":[%s,%s,%s]}\n' \
            "$(identity admin "$ADMIN" "$ADMIN_SECRET" Admin Read List Tagging Write)" \
            "$(identity readonly "$READER" "$READER_SECRET" Read List)" \
            "$(identity writeonly "$WRITER" "$WRITER_SECRET" Write)" >"$DIR/s3.json"
    )
}

# launch_s3: starts SeaweedFS on PORTS; sets CHILD and URL.
# Its grpc sockets are in /tmp whatever one says: 'stop' removes them.
launch_s3() {
    local flags=() plain=${PORTS[6]}
    URL=http://127.0.0.1:$plain
    if [[ -n $TLS ]]; then # https has its own port, and the plain one stays
        plain=${PORTS[8]}
        URL=https://127.0.0.1:${PORTS[6]}
        flags=(-s3.port.https="${PORTS[6]}" -s3.cert.file="$DIR/server.pem" -s3.key.file="$DIR/server.key"
            -s3.domainName=s3.localhost) # BUCKET.s3.localhost is the bucket, too
    fi
    mkdir "$DIR/data" "$DIR/home"
    printf '/tmp/seaweedfs-%s-grpc-%s.sock\n' master "${PORTS[1]}" volume "${PORTS[3]}" filer "${PORTS[5]}" \
        s3 "${PORTS[7]}" >>"$DIR/rubbish"
    WEED_MASTER_VOLUME_GROWTH_COPY_1=2 WEED_S3_SSE_KEY=$SSE_KEY HOME=$DIR/home \
        detach "$TOOLS/seaweedfs/bin/weed" -logtostderr=true server \
        -dir="$DIR/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -master.port="${PORTS[0]}" -master.port.grpc="${PORTS[1]}" -master.telemetry=false \
        -master.volumeSizeLimitMB=256 -volume=false \
        -filer -filer.port="${PORTS[4]}" -filer.port.grpc="${PORTS[5]}" -filer.localSocket="$DIR/filer.sock" \
        -s3 -s3.port="$plain" -s3.port.grpc="${PORTS[7]}" -s3.config="$DIR/s3.json" -s3.localSocket="$DIR/s3.sock" \
        -s3.iam=false -s3.autoCreateBucket=false -s3.port.iceberg=0 -s3.port.lance=0 "${flags[@]}"
}

# Each bucket takes several volumes: with -max=100, the twentieth bucket gets only InternalError.
# launch_volume: starts the part that stores, once the master leads; status 1 where the master died. Inside 'weed
# server' it often registers a moment too early, and tries again only 5 s later: until then nothing can be stored.
launch_volume() {
    local main=$CHILD round
    for ((round = 0; round < 600; round++)); do
        process_start "$main" || return 1
        ! tail -n "+$((LOGGED + 1))" "$DIR/log" | grep -q 'becomes leader' || break
        sleep 0.05
    done
    HOME=$DIR/home detach "$TOOLS/seaweedfs/bin/weed" -logtostderr=true volume -dir="$DIR/data" \
        -master="127.0.0.1:${PORTS[0]}.${PORTS[1]}" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -port="${PORTS[2]}" -port.grpc="${PORTS[3]}" -max=10000 -minFreeSpace=100MiB
    remember volume "$CHILD" || return 1
    VOLUME=$CHILD CHILD=$main
}

# await_s3: waits until an object can be written and read; status 1 where the server died.
await_s3() {
    S3_URL=$URL S3_ACCESS_KEY=$ADMIN S3_SECRET_KEY=$ADMIN_SECRET S3_CA_FILE=${TLS:+$DIR/ca.pem} \
        python3 "$SCRIPTS/s3" ready "$CHILD" "$VOLUME" >>"$DIR/log" 2>&1
}

# start_s3_on_free_ports: starts it, on other ports where one was taken at the last moment.
start_s3_on_free_ports() {
    local try
    for try in 1 2 3 4 5; do
        free_ports 9
        [[ -z $PORT ]] || PORTS[6]=$PORT
        rm -rf "$DIR/data" "${DIR:?}/home"
        LOGGED=$(wc -l <"$DIR/log")
        launch_s3
        if remember s3 "$CHILD" && launch_volume; then
            ! await_s3 || return 0
            ! process_start "$CHILD" || ! process_start "$VOLUME" || die "SeaweedFS was not ready after a minute"
        fi
        kill_remembered s3 KILL
        kill_remembered volume KILL
        sleep "0.$try"
    done
    die "SeaweedFS did not start${PORT:+ on port $PORT}"
}

start_s3() {
    prepare
    "$SCRIPTS/install" s3 >&2
    if [[ -n $TLS ]]; then
        make_certificates
        rm "$DIR/ca.key"
    fi
    write_identities
    SSE_KEY=$(secret)
    start_s3_on_free_ports
    finish
    printf '%s\n' "S3_URL=$URL" S3_REGION=us-east-1 "S3_ACCESS_KEY=$ADMIN" "S3_SECRET_KEY=$ADMIN_SECRET" \
        "S3_READONLY_ACCESS_KEY=$READER" "S3_READONLY_SECRET_KEY=$READER_SECRET" \
        "S3_WRITEONLY_ACCESS_KEY=$WRITER" "S3_WRITEONLY_SECRET_KEY=$WRITER_SECRET" "PID=$CHILD"
    [[ -z $TLS ]] || echo "S3_CA_FILE=$DIR/ca.pem"
}
