-- Random bytea, as images and encrypted values are: pg_dump writes it in hexadecimal digits, so it shrinks to half and no further.
-- Usage: -v scale=N
SET client_min_messages = warning;
CREATE TABLE files (id bigint PRIMARY KEY, content bytea NOT NULL);
INSERT INTO files SELECT i, (SELECT string_agg(sha512((i * 512 + n)::text::bytea), '' ORDER BY n) FROM generate_series(1, 256) n)
    FROM generate_series(1, (7600 * :scale)::bigint) i;
