-- What the owner of a database may plant over everything that a session asks: functions and operators as pg_catalog has them
-- and such as fit better, relations, and types, in each schema of the search_path. Each says so in the server's log when it is
-- run. Run by that owner; psql variables: words (an array of all words in this program's sources), nonce.
SET search_path = '';
SELECT pg_catalog.set_config('planted.words', :'words', false), pg_catalog.set_config('planted.nonce', :'nonce', false);
CREATE SCHEMA evil;
DO $do$
DECLARE
    trap text; place text; thing record; kind text; result text;
    types oid[] := ARRAY['oid','name','text','int4','int8','bool','"char"','float8','numeric','timestamptz','interval','json',
        'jsonb','regclass','anyarray','inet']::regtype[]::oid[];
    words text[] := current_setting('planted.words')::text[];
BEGIN
    FOREACH place IN ARRAY ARRAY['evil', 'public'] LOOP
        trap := format('BEGIN RAISE LOG ''sprung %s as %% by %%'', current_user, current_query(); ', current_setting('planted.nonce'));
        EXECUTE format('CREATE FUNCTION %I.is_sprung() RETURNS bool LANGUAGE plpgsql AS %L', place, trap || 'RETURN true; END');
        -- Functions with the same arguments: they win where pg_catalog comes after their schema.
        FOR thing IN SELECT oid, proname, proretset, proargmodes, pronargs, proargtypes, prokind FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (words) LOOP
            BEGIN
                result := CASE WHEN thing.proretset OR thing.proargmodes IS NOT NULL THEN 'RETURN; END' ELSE 'RETURN NULL; END' END;
                IF thing.pronargs = 1 AND thing.proargtypes[0] IN ('"any"'::regtype, 'anyelement'::regtype) THEN
                    FOREACH kind IN ARRAY ARRAY['text', 'int4', 'int8', 'name', 'oid', 'json'] LOOP
                        EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', place, thing.proname, kind,
                            replace(pg_get_function_result(thing.oid), 'anyelement', kind), trap || result);
                    END LOOP;
                ELSE
                    EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', place, thing.proname,
                        pg_get_function_arguments(thing.oid), pg_get_function_result(thing.oid), trap || result);
                END IF;
            EXCEPTION WHEN OTHERS THEN NULL; -- pseudo-types
            END;
        END LOOP;
        -- Such as fit better than pg_catalog's, wherever their schema is in the path.
        FOR thing IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relname = ANY (words)
            AND relkind IN ('r', 'v') LOOP
            EXECUTE format('CREATE FUNCTION %I.to_jsonb(pg_catalog.%I) RETURNS jsonb LANGUAGE plpgsql AS %L', place, thing.relname,
                trap || 'RETURN NULL; END');
        END LOOP;
        EXECUTE format('CREATE FUNCTION %I.json_build_object(text, text) RETURNS json LANGUAGE plpgsql AS %L', place, trap || 'RETURN NULL; END');
        EXECUTE format('CREATE FUNCTION %I.concat(int4, text, numeric) RETURNS text LANGUAGE plpgsql AS %L', place, trap || 'RETURN NULL; END');
        -- Operators, as pg_catalog has them, and for pairs of types that it has none for.
        FOR thing IN SELECT oprname, format_type(oprleft, NULL) AS l, format_type(oprright, NULL) AS r, format_type(oprresult, NULL) AS result
            FROM pg_operator WHERE oprkind = 'b' AND oprleft = ANY (types) AND oprright = ANY (types) AND oprresult = ANY (types)
            UNION ALL SELECT o, l, r, 'bool' FROM unnest(ARRAY['=', '<>', '>=', '>']) o,
            (VALUES ('oid', 'int4'), ('oid', 'int8'), ('name', 'pg_catalog."char"'), ('text', 'int4')) AS pair (l, r) LOOP
            BEGIN
                EXECUTE format('CREATE OR REPLACE FUNCTION %1$I.%2$I(%3$s, %4$s) RETURNS %5$s LANGUAGE plpgsql AS %6$L', place,
                    'op_' || thing.result, thing.l, thing.r, thing.result, trap || 'RETURN NULL; END');
                EXECUTE format('CREATE OPERATOR %1$I.%2$s (FUNCTION = %1$I.%3$I, LEFTARG = %4$s, RIGHTARG = %5$s)', place,
                    thing.oprname, 'op_' || thing.result, thing.l, thing.r);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        -- Relations, and types with a cast of their own.
        FOR thing IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relname = ANY (words)
            AND relkind IN ('r', 'v') LOOP
            BEGIN
                EXECUTE format('CREATE VIEW %I.%I AS SELECT * FROM pg_catalog.%2$I WHERE %1$I.is_sprung()', place, thing.relname);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        FOR thing IN SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typname = ANY (words)
            AND typtype = 'b' LOOP
            BEGIN
                EXECUTE format('CREATE DOMAIN %I.%I AS pg_catalog.%2$I CHECK (%1$I.is_sprung())', place, thing.typname);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        EXECUTE format('CREATE TYPE %I.pair AS (a pg_catalog.text)', place);
        EXECUTE format('CREATE FUNCTION %I.cast_pair(%1$I.pair) RETURNS pg_catalog.json LANGUAGE plpgsql AS %L', place, trap || 'RETURN NULL; END');
        EXECUTE format('CREATE CAST (%I.pair AS pg_catalog.json) WITH FUNCTION %1$I.cast_pair(%1$I.pair) AS IMPLICIT', place);
        EXECUTE format('CREATE TABLE %I.ledger (id int PRIMARY KEY, p %1$I.pair)', place);
        EXECUTE format('INSERT INTO %I.ledger VALUES (1, NULL)', place);
    END LOOP;
END
$do$;
-- How many of each were planted.
SELECT (SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = n.oid), (SELECT count(*) FROM pg_catalog.pg_operator
WHERE oprnamespace = n.oid), (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = n.oid AND relkind = 'v'),
(SELECT count(*) FROM pg_catalog.pg_type WHERE typnamespace = n.oid AND typtype = 'd')
FROM pg_catalog.pg_namespace n WHERE nspname IN ('evil', 'public');
