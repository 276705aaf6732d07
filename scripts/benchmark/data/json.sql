-- Documents: one jsonb column with nested objects, arrays, identifiers and times. Usage: -v scale=N
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.pick(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT (hashint8extended(i, salt) & 9223372036854775807) % n $$;
CREATE TABLE documents (id bigint PRIMARY KEY, data jsonb NOT NULL);
INSERT INTO documents SELECT i, jsonb_build_object('id', md5(i::text)::uuid, 'type', (ARRAY['created', 'updated', 'deleted', 'viewed'])[1 + pg_temp.pick(i, 1, 4)],
        'at', '2026-01-01'::timestamptz + i * interval '1.7 seconds', 'user', jsonb_build_object('id', pg_temp.pick(i / 9, 2, 90000), 'session', md5((i / 9)::text),
        'verified', pg_temp.pick(i / 9, 3, 3) > 0, 'country', (ARRAY['DE', 'FR', 'GB', 'JP', 'US', 'BR'])[1 + pg_temp.pick(i / 9, 4, 6)]),
        'items', jsonb_build_array(jsonb_build_object('sku', 'A-' || pg_temp.pick(i, 5, 50000), 'count', 1 + pg_temp.pick(i, 6, 9), 'price', pg_temp.pick(i, 7, 90000) / 100.0),
        jsonb_build_object('sku', 'B-' || pg_temp.pick(i, 8, 50000), 'count', 1 + pg_temp.pick(i, 9, 9), 'price', pg_temp.pick(i, 10, 90000) / 100.0)),
        'note', CASE WHEN pg_temp.pick(i, 11, 5) = 0 THEN 'delivered to the neighbour at number ' || pg_temp.pick(i, 12, 300) END)
    FROM generate_series(1, (700000 * :scale)::bigint) i;
