-- Pages of what is rare without reading the rest; predictions with one large index less; and a version goes live in time
-- that grows with the pictures that change, and not with all. Safe to run again.

-- The newest predictions of a version, or of a mixture of label, decision and version. The counts say on which days there
-- are some: only what the service made on these is read, with an hour around, because ids are made before the rows' times.
-- The condition is a text so that it names only what is asked for, and is planned for these values.
create or replace function public.page_of_predictions(
    label text, decided text, version text, since timestamptz, until timestamptz, before uuid, max_rows integer
) returns json language plpgsql stable set search_path = '' set jit = off as $$
declare
    condition text := concat_ws(' and ', 'id >= $1 and id < $2',
        case when label is not null then 'predicted_class = $3' end,
        case when decided is not null then 'decision = $4' end,
        case when version is not null then 'model_version = $5' end,
        case when since is not null then 'created_at >= $6' end,
        case when until is not null then 'created_at < $7' end);
    counted record;
    bound uuid := coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    more uuid[];
    found_ids uuid[] := '{}';
begin
    for counted in
        select public.first_id_at(day - interval '1 hour') as first, public.first_id_at(day + interval '25 hours') as last
            from public."Prediction_Counts"
            where (label is null or predicted_class = label) and (decided is null or decision = decided)
                and (version is null or model_version = version)
                and (since is null or day >= (since at time zone 'UTC')::date)
                and (until is null or day <= (until at time zone 'UTC')::date)
            group by day having sum(rows) > 0 order by day desc
    loop
        continue when counted.first >= bound;
        execute 'select array(select id from public."Predict" where ' || condition || ' order by id desc limit $8)'
            into more
            using counted.first, least(counted.last, bound), label, decided, version, since, until,
                max_rows - cardinality(found_ids);
        found_ids := found_ids || more;
        exit when cardinality(found_ids) >= max_rows;
        bound := counted.first;
    end loop;
    return (select coalesce(json_agg(one order by id desc), '[]') from public."Predict" one where id = any(found_ids));
end $$;

-- The smallest UUIDv7 of a time (UTC).
create or replace function public.first_id_at(moment timestamp) returns uuid language sql immutable
set search_path = '' as $$
    select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
$$;

-- Versions follow each other in the table, so the ranges of blocks that hold one do for an index: a few kilobytes, where
-- each prediction had an entry. The name stays, or running the third migration again would create the large one.
do $$
begin
    if exists (
        select from pg_catalog.pg_class index join pg_catalog.pg_am method on method.oid = index.relam
        where index.oid = pg_catalog.to_regclass('public.predict_version') and method.amname = 'btree'
    ) then
        drop index public.predict_version;
    end if;
end $$;
create index if not exists predict_version on public."Predict" using brin (model_version);

-- Of the pictures that wait, those of a label and a split without the others.
do $$
begin
    if 1 = (
        select indnatts from pg_catalog.pg_index where indexrelid = pg_catalog.to_regclass('public.training_data_unprocessed')
    ) then
        drop index public.training_data_unprocessed;
    end if;
end $$;
create index if not exists training_data_unprocessed on public."Training_Data" (id, shoe_class, split)
    where not is_processed;

-- PostgreSQL takes up to a second to compile what then takes a tenth of one.
alter function public.picture_sizes(text, integer) set jit = off;
alter function public.count_unlearned(text) set jit = off;
alter function public.prepare_publication(json, json) set jit = off;
alter function public.change_label(json) set jit = off;
alter function public.undo_change(uuid) set jit = off;

-- As before, but only pictures are looked at that a version has learned which was known before and is not now, or the
-- other way round. Without a version before, or with the same one, all are: whatever they say, they are right then.
create or replace function public.set_live_version(wanted text) returns void language plpgsql
set search_path = '' set work_mem = '32MB' set jit = off set statement_timeout = '15min' as $$
declare
    old text := (select version from public."Model_Versions" where state = 'live' and version <> wanted);
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    if not exists (select from public."Model_Versions" where version = wanted) then
        raise exception 'version % does not exist', wanted using errcode = 'no_data_found';
    end if;
    update public."Model_Versions" set state = 'archived' where state = 'live' and version <> wanted;
    update public."Model_Versions" set state = 'live' where version = wanted and state <> 'live';
    with recursive known (version) as (
        select wanted
        union
        select one.parent from public."Model_Versions" one join known using (version) where one.parent is not null
    ), known_before (version) as (
        select old
        union
        select one.parent from public."Model_Versions" one join known_before using (version) where one.parent is not null
    ), differing as (
        select version from known full join known_before using (version)
            where known.version is null or known_before.version is null
    ), doubtful as (
        select training_id as id from public."Learned_Pictures" join differing using (version) where old is not null
        union
        select id from public."Training_Data" where old is null
    ), learned as (
        select training_id as id from public."Learned_Pictures" join known using (version)
    ), changed as (
        select id from doubtful join public."Training_Data" using (id)
            where is_processed and not exists (select from learned where learned.id = doubtful.id)
        union all
        select id from doubtful join public."Training_Data" using (id)
            where not is_processed and exists (select from learned where learned.id = doubtful.id)
    )
    update public."Training_Data" picture set is_processed = not picture.is_processed
        from changed where picture.id = changed.id;
end $$;

-- What `supabase check` compares with what the service needs: all that there is.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 4,
        'tables', (
            select json_object_agg(c.relname, json_build_object(
                'row_level_security', c.relrowsecurity,
                'writable', has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                    and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'),
                'policies', (select count(*) from pg_catalog.pg_policy p where p.polrelid = c.oid),
                'columns', (
                    select json_agg(a.attname order by a.attname) from pg_catalog.pg_attribute a
                    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                ),
                'indexes', (
                    select json_agg(i.relname order by i.relname) from pg_catalog.pg_index x
                    join pg_catalog.pg_class i on i.oid = x.indexrelid where x.indrelid = c.oid
                )
            ))
            from pg_catalog.pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
        ),
        'functions', (
            select json_object_agg(name, signatures) from (
                select p.proname as name,
                    json_agg(pg_catalog.pg_get_function_identity_arguments(p.oid) order by p.oid) as signatures
                from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace
                group by p.proname
            ) found
        )
    );
$$;

do $$
declare
    name text;
begin
    foreach name in array array[
        'page_of_predictions(text, text, text, timestamptz, timestamptz, uuid, integer)', 'first_id_at(timestamp)',
        'set_live_version(text)', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
