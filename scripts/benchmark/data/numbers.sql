-- Measurements: integers, floating point and decimal numbers, and times, without text. Usage: -v scale=N
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.pick(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT (hashint8extended(i, salt) & 9223372036854775807) % n $$;
CREATE TABLE measurements (id bigint PRIMARY KEY, sensor int NOT NULL, at timestamptz NOT NULL, temperature double precision NOT NULL, pressure real NOT NULL,
    voltage numeric(8, 3) NOT NULL, counter bigint NOT NULL, flags smallint NOT NULL);
INSERT INTO measurements SELECT i, pg_temp.pick(i, 1, 5000), '2026-01-01'::timestamptz + i * interval '91 milliseconds', 20 + 10 * sin(i / 5000.0) + pg_temp.pick(i, 2, 1000000) / 1e6,
        1013 + pg_temp.pick(i, 3, 4000) / 100.0, pg_temp.pick(i, 4, 240000) / 1000.0, i * 1000 + pg_temp.pick(i, 5, 1000), pg_temp.pick(i, 6, 16)
    FROM generate_series(1, (3100000 * :scale)::bigint) i;
