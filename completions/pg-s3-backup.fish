# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pg_s3_backup_global_optspecs
    string join \n h/help V/version
end

function __fish_pg_s3_backup_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pg_s3_backup_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pg_s3_backup_using_subcommand
    set -l cmd (__fish_pg_s3_backup_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -s V -l version -d 'Print version'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "backup" -d 'Take one backup: dump, compress, upload, verify, commit'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "list" -d 'List the backups, newest first'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "check" -d 'Verify configuration, connectivity and the latest backup'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "daemon" -d 'Take backups on a schedule until stopped'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "health" -d 'Ask the daemon on this host whether it is alive, for a container\'s health check'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "prune" -d 'Delete the backups that no retention rule keeps, and abort abandoned uploads'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "restore" -d 'Restore a backup into a database, a file or stdout; verified, or not at all'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "delete" -d 'Delete named backups with their sidecars (manifest, globals, index); the newest valid one only with `--force`'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l pg-dump-path -d '`pg_dump` to use with its `psql` [env: PG_DUMP_PATH]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l database-jobs -d 'Databases backed up at once [env: BACKUP_DATABASE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l compression -d '`gzip`, or `zstd` [env: BACKUP_COMPRESSION]' -r -f -a "gzip\t''
zstd\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l compression-level -d '`auto`, or 1 (fast) to 9 (small) [env: BACKUP_COMPRESSION_LEVEL]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l age-recipients -d 'Age public keys to encrypt for [env: BACKUP_AGE_RECIPIENTS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l threads -d 'Compression threads [env: BACKUP_THREADS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l part-size -d 'Size of the upload\'s parts [env: BACKUP_PART_SIZE]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l upload-concurrency -d 'Parts uploaded at once [env: BACKUP_UPLOAD_CONCURRENCY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l spool-dir -d 'Directory that buffers parts on disk [env: BACKUP_SPOOL_DIR]' -r -f -a "(__fish_complete_directories)"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l timezone -d 'IANA time zone of the schedule [env: BACKUP_TIMEZONE]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l retention-days -d 'Keep the backups of the last N days [env: BACKUP_RETENTION_DAYS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-last -d 'Keep the last N backups [env: BACKUP_KEEP_LAST]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-hourly -d 'Keep the last N hourly backups [env: BACKUP_KEEP_HOURLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-daily -d 'Keep the last N daily backups [env: BACKUP_KEEP_DAILY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-weekly -d 'Keep the last N weekly backups [env: BACKUP_KEEP_WEEKLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-monthly -d 'Keep the last N monthly backups [env: BACKUP_KEEP_MONTHLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l keep-yearly -d 'Keep the last N yearly backups [env: BACKUP_KEEP_YEARLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l min-keep -d 'Keep at least the last N valid backups [env: BACKUP_MIN_KEEP]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l metrics-file -d 'File to write metrics to [env: METRICS_FILE]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l allow-pooler -d 'Dump through a transaction pooler'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l allow-mixed -d 'Back up to a destination that holds another database\'s backups'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l json -d 'Print the result as one JSON object on stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -l no-progress -d 'Draw no progress bar; log progress every 30 s instead'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand backup" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l limit -d 'Show the newest N, with the facts of their manifests, or `all`' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l contents -d 'Show what the backup holds: every table, index and function, with rows and bytes of data'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -l json -d 'Print JSON on stdout: an array of backups, or with a name the manifest of that backup'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -s q -l quiet -d 'Print only the names, one per line'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand list" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l pg-dump-path -d '`pg_dump` to use with its `psql` [env: PG_DUMP_PATH]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l jobs -d 'Sessions that restore at once [env: RESTORE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l database-jobs -d 'Databases backed up at once [env: BACKUP_DATABASE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l compression -d '`gzip`, or `zstd` [env: BACKUP_COMPRESSION]' -r -f -a "gzip\t''
zstd\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l compression-level -d '`auto`, or 1 (fast) to 9 (small) [env: BACKUP_COMPRESSION_LEVEL]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l age-recipients -d 'Age public keys to encrypt for [env: BACKUP_AGE_RECIPIENTS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l threads -d 'Compression threads [env: BACKUP_THREADS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l part-size -d 'Size of the upload\'s parts [env: BACKUP_PART_SIZE]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l upload-concurrency -d 'Parts uploaded at once [env: BACKUP_UPLOAD_CONCURRENCY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l spool-dir -d 'Directory that buffers parts on disk [env: BACKUP_SPOOL_DIR]' -r -f -a "(__fish_complete_directories)"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l interval -d 'When to back up [env: BACKUP_INTERVAL]' -r -f -a "@hourly\t''
@daily\t''
@weekly\t''
@monthly\t''
@yearly\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l timezone -d 'IANA time zone of the schedule [env: BACKUP_TIMEZONE]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l max-age -d 'Fail if the latest backup is older, such as `26h` or `8d`' -r -f -a "none\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l min-size -d 'Fail if the latest backup is smaller, such as `100MiB`' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l max-shrink -d 'Fail if the latest backup shrank by more than this' -r -f -a "none\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l backup -d 'Drill this backup instead of the latest: its name, its key or its s3:// URL' -r -f -a "latest\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l check-sql -d 'Run the queries of this file in the restored database; each must return one true' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l search-path -d 'Set this search_path during the drill, for functions that need one, as with `restore`' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l restore-to -d 'The server of the restore drill [env: DRILL_CONNECTION_STRING]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l retention-days -d 'Keep the backups of the last N days [env: BACKUP_RETENTION_DAYS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-last -d 'Keep the last N backups [env: BACKUP_KEEP_LAST]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-hourly -d 'Keep the last N hourly backups [env: BACKUP_KEEP_HOURLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-daily -d 'Keep the last N daily backups [env: BACKUP_KEEP_DAILY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-weekly -d 'Keep the last N weekly backups [env: BACKUP_KEEP_WEEKLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-monthly -d 'Keep the last N monthly backups [env: BACKUP_KEEP_MONTHLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l keep-yearly -d 'Keep the last N yearly backups [env: BACKUP_KEEP_YEARLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l min-keep -d 'Keep at least the last N valid backups [env: BACKUP_MIN_KEEP]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l listen -d 'Address of the HTTP server [env: LISTEN]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l metrics-file -d 'File to write metrics to [env: METRICS_FILE]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l allow-pooler -d 'Dump through a transaction pooler'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l bucket-only -d 'Check only the bucket: writes nothing, needs no PostgreSQL'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l deep -d 'Download the latest backup and verify all of it'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l allow-same-server -d 'Allow a drill on the server that was backed up'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l allow-shared-server -d 'Allow a drill as a superuser on a server that has other databases'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -l json -d 'Print the result as one JSON object on stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand check" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l pg-dump-path -d '`pg_dump` to use with its `psql` [env: PG_DUMP_PATH]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l jobs -d 'Sessions that restore at once [env: RESTORE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l database-jobs -d 'Databases backed up at once [env: BACKUP_DATABASE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l compression -d '`gzip`, or `zstd` [env: BACKUP_COMPRESSION]' -r -f -a "gzip\t''
zstd\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l compression-level -d '`auto`, or 1 (fast) to 9 (small) [env: BACKUP_COMPRESSION_LEVEL]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l age-recipients -d 'Age public keys to encrypt for [env: BACKUP_AGE_RECIPIENTS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l threads -d 'Compression threads [env: BACKUP_THREADS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l part-size -d 'Size of the upload\'s parts [env: BACKUP_PART_SIZE]' -r -f -a "auto\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l upload-concurrency -d 'Parts uploaded at once [env: BACKUP_UPLOAD_CONCURRENCY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l spool-dir -d 'Directory that buffers parts on disk [env: BACKUP_SPOOL_DIR]' -r -f -a "(__fish_complete_directories)"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l catch-up -d 'Take a backup at the start if the last one was missed' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l interval -d 'When to back up [env: BACKUP_INTERVAL]' -r -f -a "@hourly\t''
@daily\t''
@weekly\t''
@monthly\t''
@yearly\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l timezone -d 'IANA time zone of the schedule [env: BACKUP_TIMEZONE]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l check-sql -d 'Run the queries of this file in the restored database; each must return one true' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l search-path -d 'Set this search_path during the drill, for functions that need one, as with `restore`' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l restore-to -d 'The server of the restore drill [env: DRILL_CONNECTION_STRING]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l retention-days -d 'Keep the backups of the last N days [env: BACKUP_RETENTION_DAYS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-last -d 'Keep the last N backups [env: BACKUP_KEEP_LAST]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-hourly -d 'Keep the last N hourly backups [env: BACKUP_KEEP_HOURLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-daily -d 'Keep the last N daily backups [env: BACKUP_KEEP_DAILY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-weekly -d 'Keep the last N weekly backups [env: BACKUP_KEEP_WEEKLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-monthly -d 'Keep the last N monthly backups [env: BACKUP_KEEP_MONTHLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l keep-yearly -d 'Keep the last N yearly backups [env: BACKUP_KEEP_YEARLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l min-keep -d 'Keep at least the last N valid backups [env: BACKUP_MIN_KEEP]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l listen -d 'Address of the HTTP server [env: LISTEN]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l metrics-file -d 'File to write metrics to [env: METRICS_FILE]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l allow-pooler -d 'Dump through a transaction pooler'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l allow-mixed -d 'Back up to a destination that holds another database\'s backups'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l run-on-start -d 'Take a backup at the start in any case'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l allow-same-server -d 'Allow a drill on the server that was backed up'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -l allow-shared-server -d 'Allow a drill as a superuser on a server that has other databases'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand daemon" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand health" -l listen -d 'Address of the HTTP server [env: LISTEN]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand health" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand health" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand health" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l spool-dir -d 'Directory that buffers parts on disk [env: BACKUP_SPOOL_DIR]' -r -f -a "(__fish_complete_directories)"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l timezone -d 'IANA time zone of the schedule [env: BACKUP_TIMEZONE]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l sweep-after -d 'Abort this tool\'s abandoned uploads: those without a new part for this time' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l retention-days -d 'Keep the backups of the last N days [env: BACKUP_RETENTION_DAYS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-last -d 'Keep the last N backups [env: BACKUP_KEEP_LAST]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-hourly -d 'Keep the last N hourly backups [env: BACKUP_KEEP_HOURLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-daily -d 'Keep the last N daily backups [env: BACKUP_KEEP_DAILY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-weekly -d 'Keep the last N weekly backups [env: BACKUP_KEEP_WEEKLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-monthly -d 'Keep the last N monthly backups [env: BACKUP_KEEP_MONTHLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l keep-yearly -d 'Keep the last N yearly backups [env: BACKUP_KEEP_YEARLY]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l min-keep -d 'Keep at least the last N valid backups [env: BACKUP_MIN_KEEP]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l dry-run -d 'Delete nothing; print for each backup whether it is kept or deleted, and why'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l force -d 'Delete even if a safety check fails'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -l json -d 'Print the result as one JSON object on stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand prune" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l at -d 'Newest backup started by this time: RFC 3339 or local in `BACKUP_TIMEZONE`' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l database -d 'With `BACKUP_DATABASES`: the database that was backed up' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l pg-dump-path -d '`pg_dump` to use with its `psql` [env: PG_DUMP_PATH]' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l output -d 'Write the plain dump to this file, or with `-` to stdout' -r -F
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l table -d 'Restore only matching tables, views and sequences (with `*`, `?`)' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l schema -d 'Restore only matching schemas with everything in them' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l create-db -d 'Create this database; it gets its name when it is complete' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l exclude-table -d 'Leave out matching tables, views and sequences (with `*`, `?`)' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l exclude-schema -d 'Leave out matching schemas with everything in them' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l exclude-table-data -d 'Leave out the rows of matching tables' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l search-path -d '`search_path` of the restore, for functions that need one' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l to -d 'The database to restore into [env: RESTORE_CONNECTION_STRING]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l jobs -d 'Sessions that restore at once [env: RESTORE_JOBS]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l timezone -d 'IANA time zone of the schedule [env: BACKUP_TIMEZONE]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l ignore-manifest -d 'Verify without the manifest: by the codec\'s checksum and the dump\'s end'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l dry-run -d 'Restore nothing; look for what would make the restore fail'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l raw -d 'Write the stored bytes (compressed), to a file or stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l schema-only -d 'Restore only definitions, no rows'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l data-only -d 'Restore only rows, into empty tables that exist'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l replace -d 'Replace the database of that name; the old one is kept, renamed'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l keep-failed -d 'If the restore fails, keep the incomplete scratch database'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-owner -d 'Restore no owners: the connecting role owns everything'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-privileges -d 'Restore no grants'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-tablespaces -d 'Restore no tablespaces: everything is in the default one'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-comments -d 'Restore no comments'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l create-roles -d 'Create missing roles that the manifest lists, with `NOLOGIN`'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l globals -d 'Create missing roles, with passwords, from the backup\'s globals'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-database-settings -d 'With `--create-db`: no owner, grants and settings of the database'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-analyze -d 'Do not run `ANALYZE` afterwards'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l json -d 'Print the result as one JSON object on stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -l no-progress -d 'Draw no progress bar; log progress every 30 s instead'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand restore" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l databases -d 'Databases of the server [env: BACKUP_DATABASES]' -r -f -a "all\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l s3-bucket -d 'Bucket that holds the backups [env: S3_BUCKET]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l s3-path -d 'Key prefix of the backups [env: S3_PATH]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l s3-url -d 'Endpoint of an S3-compatible server [env: S3_URL]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l s3-region -d 'Region of the bucket [env: S3_REGION]' -r -f
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l s3-force-path-style -d 'Address the bucket in the path [env: S3_FORCE_PATH_STYLE]' -r -f -a "true\t''
false\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l log-level -d 'Least severe messages to log [env: LOG_LEVEL]' -r -f -a "error\t''
warn\t''
warning\t''
info\t''
debug\t''
trace\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l log-format -d 'Format of the log [env: LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l force -d 'Delete the newest valid backup, too'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l dry-run -d 'Delete nothing; print what would be deleted'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -l json -d 'Print the result as one JSON object on stdout'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand delete" -s h -l help -d 'Print this help; `--help` describes every setting'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "backup" -d 'Take one backup: dump, compress, upload, verify, commit'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "list" -d 'List the backups, newest first'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "check" -d 'Verify configuration, connectivity and the latest backup'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "daemon" -d 'Take backups on a schedule until stopped'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "health" -d 'Ask the daemon on this host whether it is alive, for a container\'s health check'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "prune" -d 'Delete the backups that no retention rule keeps, and abort abandoned uploads'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "restore" -d 'Restore a backup into a database, a file or stdout; verified, or not at all'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "delete" -d 'Delete named backups with their sidecars (manifest, globals, index); the newest valid one only with `--force`'
complete -c pg-s3-backup -n "__fish_pg_s3_backup_using_subcommand help; and not __fish_seen_subcommand_from completions backup list check daemon health prune restore delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
