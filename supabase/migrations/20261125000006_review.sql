-- The review queue: the predictions that wait for a person, without the table; and how often each version decided how.
-- Safe to run again.

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

-- What `supabase check` compares with what the service needs; from now on, all that there is.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 6,
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
    foreach name in array array['decision_counts(uuid)', 'describe_shoe_classifier()'] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
