-- Prose: articles of 10 to 30 sentences, put together from 400,000 sentences of frequent and rare words. Usage: -v scale=N
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.pick(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT (hashint8extended(i, salt) & 9223372036854775807) % n $$;
CREATE TEMP TABLE words AS SELECT row_number() OVER (ORDER BY md5(a || b || c)) - 1 AS n, a || b || c AS word
    FROM unnest('{"",ba,con,di,ex,fe,in,lo,mi,ne,per,re,su,tra,un,vo}'::text[]) a, unnest('{ba,ce,du,fi,ga,lin,mol,nes,pat,ras,sul,ten,ver,wen}'::text[]) b,
    unnest('{"",a,ed,en,er,ing,ly,ness,s,tion}'::text[]) c;
SET work_mem = '256MB';
-- The square makes low numbers frequent.
CREATE TEMP TABLE sentences AS SELECT s AS n, upper(left(string_agg(word, ' ' ORDER BY w), 1)) || substr(string_agg(word, ' ' ORDER BY w), 2) || '. ' AS sentence
    FROM (SELECT s, w, floor(2240 * power(pg_temp.pick(s * 20 + w, 2, 1000000) / 1000000.0, 2))::bigint AS k
        FROM generate_series(0, 399999) s, generate_series(1, 6 + pg_temp.pick(s, 1, 12)) w) numbers JOIN words ON words.n = k GROUP BY s;
CREATE TABLE articles (id bigint PRIMARY KEY, slug text NOT NULL, body text NOT NULL);
INSERT INTO articles SELECT i, 'article-' || i, string_agg(sentence, '' ORDER BY p)
    FROM (SELECT i, p, pg_temp.pick(i * 30 + p, 4, 400000) AS k FROM generate_series(1, (150000 * :scale)::bigint) i, generate_series(1, 10 + pg_temp.pick(i, 3, 20)) p)
    numbers JOIN sentences ON sentences.n = k GROUP BY i ORDER BY i;
