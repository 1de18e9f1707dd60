-- Labels that are renamed, merged and removed; suspect pictures that people keep; corrections of many pictures at once;
-- filters. Safe to run again.

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

-- What `supabase check` compares with what the service needs.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 7,
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
        'training_pictures(uuid[])', 'relabel_pictures(uuid[], text)', 'delete_pictures(uuid[])', 'label_counts()',
        'change_label(json)', 'label_changes()', 'kept_pictures()', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
