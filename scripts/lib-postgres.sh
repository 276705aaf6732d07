# shellcheck shell=bash
# The PostgreSQL part of scripts/server; sourced by it. Uses its DIR, PORT, MAJOR, SUPERUSER, TLS, STATEMENTS and PRIMARY.

# choose_user: sets AS to the words that run a command as a user that PostgreSQL accepts (it refuses root).
choose_user() {
    AS=()
    ((EUID == 0)) || return 0
    local user=nobody group
    ! id -u postgres >/dev/null 2>&1 || user=postgres
    group=$(id -g "$user")
    chown "$user:$group" "$DIR"
    AS=(setpriv "--reuid=$user" "--regid=$group" --clear-groups --)
    chown "$user:$group" "$DIR/log"
    "${AS[@]}" test -w "$DIR" -a -x "$DIR" ||
        die "user $user, which has to run PostgreSQL, may not enter $DIR: choose a directory below /tmp"
}

# choose_programs: sets BIN to the directory of the server's programs, and makes sure that its user may run them (a
# copy in DIR where not, as for a repository below /root).
choose_programs() {
    server_bin "$MAJOR" || {
        "$SCRIPTS/install" "postgres${MAJOR:+-$MAJOR}" >&2
        server_bin "$MAJOR"
    }
    BIN=$FOUND
    ((EUID == 0)) || return 0
    "${AS[@]}" test -x "$BIN/postgres" && return
    cp -R "$(dirname "$BIN")" "$DIR/pgsql"
    BIN=$DIR/pgsql/bin
}

# make_cluster: initdb, with the password through a file.
make_cluster() {
    local locale=C.UTF-8
    [[ $(locale -a 2>/dev/null) == *C.[uU][tT][fF]* ]] || locale=C
    (
        umask 077
        printf '%s\n' "$PASSWORD" >"$DIR/pwfile"
    )
    ((EUID != 0)) || chown --reference="$DIR" "$DIR/pwfile"
    (cd "$DIR" && "${AS[@]}" "$BIN/initdb" -D "$DIR/data" -U "$SUPERUSER" -A scram-sha-256 --pwfile="$DIR/pwfile" \
        -E UTF8 --locale="$locale" --no-sync) </dev/null >>"$DIR/log" 2>&1 || die "initdb failed"
    rm "$DIR/pwfile"
}

# copy_cluster: a standby of the server on port PRIMARY, with its password in PGPASSWORD.
copy_cluster() {
    (cd "$DIR" && "${AS[@]}" "$BIN/pg_basebackup" -D "$DIR/data" -h 127.0.0.1 -p "$PRIMARY" -U postgres -w -R \
        --checkpoint=fast --no-sync) </dev/null >>"$DIR/log" 2>&1 || die "pg_basebackup failed"
}

# make_client_certificate: for the role cert_user, of the authority in DIR/ca.pem; its key is for the caller.
make_client_certificate() {
    (
        cd "$DIR"
        umask 077
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=cert_user \
            -keyout client.key -out client.csr
        openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -set_serial 3 -days 30 -out client.pem
        rm client.csr ca.key
    ) >>"$DIR/log" 2>&1 || die "openssl failed: $(tail -n 1 "$DIR/log")"
    chmod 644 "$DIR/client.pem"
}

# write_settings: what differs from the default settings; the port is on the command line.
write_settings() {
    {
        printf '%s\n' "listen_addresses = '127.0.0.1'" "unix_socket_directories = '$SOCKETS'" \
            'fsync = off' 'synchronous_commit = off' 'full_page_writes = off' 'max_wal_size = 4GB' \
            'shared_buffers = 128MB' 'maintenance_work_mem = 128MB' 'max_connections = 200' \
            'max_locks_per_transaction = 256' 'jit = off' 'logging_collector = off' \
            "log_line_prefix = '%m [%p] %q%a %u@%d '" "timezone = 'UTC'" "log_timezone = 'UTC'"
        if [[ -n $STATEMENTS ]]; then
            printf '%s\n' 'log_statement = all' 'log_connections = on' 'log_disconnections = on'
        fi
        if [[ -n $TLS ]]; then
            printf '%s\n' 'ssl = on' "ssl_cert_file = '$DIR/server.pem'" "ssl_key_file = '$DIR/server.key'" "ssl_ca_file = '$DIR/ca.pem'"
        fi
    } >>"$DIR/data/postgresql.conf"
    [[ -z $TLS ]] || sed -i '1i hostssl all cert_user 127.0.0.1/32 cert' "$DIR/data/pg_hba.conf"
}

# await_postgres: waits until the server says in its pid file that it is ready; status 1 where it died.
await_postgres() {
    local round
    local -a line
    for ((round = 0; round < 1200; round++)); do
        process_start "$CHILD" || return 1
        mapfile -t line 2>/dev/null <"$DIR/data/postmaster.pid" || line=()
        [[ ${line[0]:-} != "$CHILD" || ${line[7]:-} != ready* ]] || return 0
        sleep 0.05
    done
    die "PostgreSQL was not ready after a minute"
}

# start_on_free_port: starts it, on another port where one was taken at the last moment.
start_on_free_port() {
    local try
    for try in 1 2 3 4 5; do
        free_ports 1
        [[ -z $PORT ]] || PORTS[0]=$PORT
        detach "${AS[@]}" "$BIN/postgres" -D "$DIR/data" -p "${PORTS[0]}"
        ! remember postgres "$CHILD" || ! await_postgres || return 0
        grep -qi 'address already in use\|could not create any TCP/IP sockets' "$DIR/log" ||
            die "PostgreSQL did not start"
        sleep "0.$try"
    done
    die "PostgreSQL found no free port"
}

start_postgres() {
    prepare
    choose_user
    choose_programs
    PASSWORD=${PRIMARY:+${PGPASSWORD:?}}
    : "${PASSWORD:=$(secret)}"
    SOCKETS=$DIR
    if ((${#DIR} > 85)); then # the path of a socket may have 107 bytes
        SOCKETS=$(mktemp -d /tmp/pgsocket.XXXXXX)
        echo "$SOCKETS" >"$DIR/rubbish"
        ((EUID != 0)) || chown --reference="$DIR" "$SOCKETS"
    fi
    if [[ -n $TLS ]]; then
        make_certificates
        make_client_certificate
        ((EUID != 0)) || chown --reference="$DIR" "$DIR"/server.*
    fi
    if [[ -n $PRIMARY ]]; then copy_cluster; else make_cluster; fi
    write_settings
    start_on_free_port
    finish
    printf '%s\n' PGHOST=127.0.0.1 "PGPORT=${PORTS[0]}" "PGUSER=$SUPERUSER" "PGPASSWORD=$PASSWORD" "PGBIN=$BIN" \
        "PGSOCKETDIR=$SOCKETS" "PID=$CHILD" "DATADIR=$DIR/data"
    [[ -z $TLS ]] || printf '%s\n' "PGSSLROOTCERT=$DIR/ca.pem" "PGSSLCERT=$DIR/client.pem" "PGSSLKEY=$DIR/client.key"
}
