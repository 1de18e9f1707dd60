-- Who changed what; what people said about predictions; and what retention needs: the size of each prediction's picture,
-- and which pictures are still in use. Safe to run again.

create table if not exists public."Audit_Log" (
    id uuid primary key,
    created_at timestamptz not null,
    action text not null,
    target text not null,
    key_fingerprint text,
    client_address text not null,
    status integer not null,
    calls integer not null
);
create index if not exists audit_log_refused on public."Audit_Log" (id) where status in (401, 403);

alter table public."Audit_Log" enable row level security;
revoke all on public."Audit_Log" from anon, authenticated;
grant select, insert, update, delete on public."Audit_Log" to service_role;

alter table public."Predict"
    add column if not exists reviewed_label text,
    add column if not exists reviewed_at timestamptz,
    add column if not exists review_kind text,
    add column if not exists image_bytes bigint;
-- The rows of a picture and its size, without the table; and the oldest pictures that nobody has reviewed.
create index if not exists predict_pictures on public."Predict" (image_path, reviewed_at, image_bytes)
    where image_path is not null;
create index if not exists predict_unreviewed on public."Predict" (id)
    where image_path is not null and reviewed_at is null;

-- Keeps what a person said about a prediction. False if there is no such prediction. Repeating it changes nothing.
-- `queued` is the row, if it is still in an outbox: it is stored first, and is passed over when the outbox sends it.
create or replace function public.review_prediction(
    prediction_id uuid, label text, kind text, reviewed timestamptz, queued json
) returns boolean language plpgsql set search_path = '' as $$
begin
    if queued is not null then
        insert into public."Predict" select * from json_populate_record(null::public."Predict", queued)
            on conflict (id) do nothing;
    end if;
    update public."Predict" set reviewed_label = label, review_kind = kind, reviewed_at = reviewed
        where id = prediction_id;
    return found;
end $$;

-- Those of the pictures that a prediction or a training row still uses.
create or replace function public.pictures_in_use(image_paths text[]) returns json language sql stable
set search_path = '' as $$
    select coalesce(json_agg(path), '[]') from unnest(image_paths) path
        where exists (select from public."Predict" where image_path = path)
            or exists (select from public."Training_Data" where sha256 = substr(path, 11, 64));
$$;

-- The oldest predictions in a range of ids that nobody has reviewed and whose picture is no training picture.
create or replace function public.expendable_predictions(
    after uuid, before uuid, with_picture boolean, max_rows integer
) returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(row_to_json(oldest) order by oldest.id), '[]') from (
        select row.* from public."Predict" row
        where row.reviewed_at is null and row.id > after and row.id < before
            and (row.image_path is not null or not with_picture)
            and not exists (select from public."Training_Data" where sha256 = substr(row.image_path, 11, 64))
        order by row.id limit max_rows
    ) oldest;
$$;

-- Rows, the time of the oldest, and number and bytes of the pictures that retention may delete.
create or replace function public.kept_predictions() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'rows', (select count(*) from public."Predict"),
        'oldest', (select created_at from public."Predict" order by id limit 1),
        'pictures', count(*),
        'bytes', coalesce(sum(size), 0)
    ) from (
        select image_path, max(image_bytes) size from public."Predict" where image_path is not null
        group by image_path having count(reviewed_at) = 0
    ) picture
    where not exists (select from public."Training_Data" where sha256 = substr(picture.image_path, 11, 64));
$$;

-- What `supabase check` compares with what the service needs.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 3,
        'tables', (
            select json_object_agg(c.relname, json_build_object(
                'row_level_security', c.relrowsecurity,
                'writable', has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                    and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'),
                'policies', (select count(*) from pg_catalog.pg_policy p where p.polrelid = c.oid),
                'columns', (
                    select json_agg(a.attname) from pg_catalog.pg_attribute a
                    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                ),
                'indexes', (
                    select json_agg(i.relname) from pg_catalog.pg_index x
                    join pg_catalog.pg_class i on i.oid = x.indexrelid where x.indrelid = c.oid
                )
            ))
            from pg_catalog.pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
                and c.relname in (
                    'Predict', 'Training_Data', 'Model_Versions', 'Retrain_Jobs', 'System_Metrics', 'Learned_Pictures',
                    'Deleted_Pictures', 'Audit_Log'
                )
        ),
        'functions', (
            select json_object_agg(name, signatures) from (
                select p.proname as name,
                    json_agg(pg_catalog.pg_get_function_identity_arguments(p.oid) order by p.oid) as signatures
                from pg_catalog.pg_proc p
                where p.pronamespace = 'public'::regnamespace and p.proname in (
                    'add_training_data', 'labels_of_hashes', 'training_labels', 'relabel_training_data',
                    'delete_training_data', 'deleted_pictures',
                    'fail_lost_jobs', 'start_retrain', 'report_retrain', 'finish_retrain', 'prepare_publication',
                    'set_live_version', 'review_prediction', 'pictures_in_use', 'expendable_predictions',
                    'kept_predictions', 'describe_shoe_classifier'
                )
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
        'review_prediction(uuid, text, text, timestamptz, json)', 'pictures_in_use(text[])',
        'expendable_predictions(uuid, uuid, boolean, integer)', 'kept_predictions()', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
