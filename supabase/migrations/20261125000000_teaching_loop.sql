-- Who changed what; what people say about predictions; what retention needs; labels that are renamed, merged and removed;
-- suspect pictures that people keep; corrections of many pictures at once; filters. Safe to run again.

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

-- The predictions that wait for a review, without the table.
create index if not exists predict_undecided on public."Predict" (decision, id)
    where review_kind is null and reviewed_at is null and image_path is not null;
create index if not exists predict_random on public."Predict" (review_kind, id) where review_kind is not null;

-- The predictions since `first`, by day (UTC), version and decision. One value, so that no limit on rows cuts it.
create or replace function public.decision_counts(first uuid) returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(row_to_json(counted)), '[]') from (
        select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD') as day, model_version, decision, count(*) as count
        from public."Predict" where id > first group by 1, 2, 3
    ) counted;
$$;

create table if not exists public."Label_Changes" (
    id uuid primary key,
    label text not null,
    name text,
    changed_at timestamptz not null
);

create table if not exists public."Kept_Pictures" (
    training_id uuid not null references public."Training_Data" (id) on delete cascade,
    kind text not null,
    shoe_class text not null,
    kept_at timestamptz not null,
    primary key (training_id, kind)
);

create index if not exists predict_class on public."Predict" (predicted_class, id);
create index if not exists predict_decision on public."Predict" (decision, id);
create index if not exists predict_version on public."Predict" (model_version, id);
create index if not exists training_data_split on public."Training_Data" (split, id);

alter table public."Label_Changes" enable row level security;
alter table public."Kept_Pictures" enable row level security;
revoke all on public."Label_Changes", public."Kept_Pictures" from anon, authenticated;
grant select, insert, update, delete on public."Label_Changes", public."Kept_Pictures" to service_role;

-- Training pictures by their ids. One value, so that no limit on rows cuts it; as in the other functions that list.
create or replace function public.training_pictures(row_ids uuid[]) returns json language sql stable
set search_path = '' as $$
    select coalesce(json_agg(picture), '[]') from public."Training_Data" picture where id = any(row_ids);
$$;

-- Gives pictures another label, which no version has learned yet; those that have it already stay as they are.
create or replace function public.relabel_pictures(row_ids uuid[], label text) returns void language plpgsql
set search_path = '' as $$
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    delete from public."Learned_Pictures" using public."Training_Data" picture
        where training_id = picture.id and picture.id = any(row_ids) and picture.shoe_class <> label;
    update public."Training_Data" set shoe_class = label, is_processed = false
        where id = any(row_ids) and shoe_class <> label;
end $$;

-- Deletes rows, and keeps the hashes of their pictures. Repeating it changes nothing.
create or replace function public.delete_pictures(row_ids uuid[]) returns void language sql set search_path = '' as $$
    with gone as (delete from public."Training_Data" where id = any(row_ids) returning sha256)
    insert into public."Deleted_Pictures" (sha256) select sha256 from gone
        on conflict (sha256) do update set deleted_at = excluded.deleted_at;
$$;

-- {label: {pictures, held_out, learnt}}, in the order in which the labels first appeared.
create or replace function public.label_counts() returns json language sql stable set search_path = '' as $$
    select coalesce(json_object_agg(shoe_class, counts order by first), '{}') from (
        select shoe_class, min(id::text) as first, json_build_object(
            'pictures', count(*),
            'held_out', count(*) filter (where split = 'holdout'),
            'learnt', count(*) filter (where is_processed)
        ) as counts
        from public."Training_Data" group by shoe_class
    ) labels;
$$;

-- Keeps a change of a label, and renames the label of its pictures, or deletes them. Returns how many these were.
create or replace function public.change_label(change json) returns integer language plpgsql set search_path = '' as $$
declare
    new public."Label_Changes" := json_populate_record(null::public."Label_Changes", change);
    pictures uuid[];
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    insert into public."Label_Changes" values (new.*) on conflict do nothing;
    select coalesce(array_agg(id), '{}') into pictures from public."Training_Data" where shoe_class = new.label;
    if new.name is null then
        perform public.delete_pictures(pictures);
    else
        update public."Training_Data" set shoe_class = new.name where id = any(pictures);
        update public."Kept_Pictures" set shoe_class = new.name where shoe_class = new.label;
    end if;
    return cardinality(pictures);
end $$;

create or replace function public.label_changes() returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(change order by id), '[]') from public."Label_Changes" change;
$$;

create or replace function public.kept_pictures() returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(kept), '[]') from public."Kept_Pictures" kept;
$$;

-- What `supabase check` compares with what the service needs: all that there is.
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
        'review_prediction(uuid, text, text, timestamptz, json)', 'pictures_in_use(text[])',
        'expendable_predictions(uuid, uuid, boolean, integer)', 'kept_predictions()', 'decision_counts(uuid)',
        'training_pictures(uuid[])', 'relabel_pictures(uuid[], text)', 'delete_pictures(uuid[])', 'label_counts()',
        'change_label(json)', 'label_changes()', 'kept_pictures()', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
