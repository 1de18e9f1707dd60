-- Which training pictures each version learned, so that a rollback makes them wait again; which ones were deleted, so
-- that no model keeps samples of them; and the epochs of a job.
-- Replaces `finish_retrain`, of which an edited first migration may have left two. Safe to run again.

drop function if exists public.finish_retrain(json, uuid, uuid[]);
drop function if exists public.finish_retrain(json, uuid, json);

alter table public."Retrain_Jobs"
    add column if not exists epoch integer,
    add column if not exists epochs integer,
    add column if not exists loss double precision;

create table if not exists public."Learned_Pictures" (
    version text not null,
    training_id uuid not null references public."Training_Data" (id) on delete cascade,
    primary key (version, training_id)
);
create index if not exists learned_pictures_training_id on public."Learned_Pictures" (training_id);

create table if not exists public."Deleted_Pictures" (
    sha256 text primary key,
    deleted_at timestamptz not null default now()
);

alter table public."Learned_Pictures" enable row level security;
alter table public."Deleted_Pictures" enable row level security;
revoke all on public."Learned_Pictures", public."Deleted_Pictures" from anon, authenticated;
grant select, insert, update, delete on public."Learned_Pictures", public."Deleted_Pictures" to service_role;

-- Until now a row was marked as processed without saying by which version. The live version knows all of them; without
-- one, it is the newest that has been live. Without any version, they are to be learned again.
insert into public."Learned_Pictures" (version, training_id)
    select seed.version, picture.id
    from (
        select version from public."Model_Versions" where state in ('live', 'archived')
        order by state = 'live' desc, created_at desc limit 1
    ) seed
    join public."Training_Data" picture on picture.is_processed
    where not exists (select from public."Learned_Pictures" known where known.training_id = picture.id);

-- Gives a picture another label, which no version has learned yet.
create or replace function public.relabel_training_data(row_id uuid, label text) returns void language plpgsql
set search_path = '' as $$
begin
    -- As in all functions that change what was learned: one after the other, or a version that is just being published
    -- could count as having learned the new label.
    lock table public."Learned_Pictures" in share row exclusive mode;
    update public."Training_Data" set shoe_class = label, is_processed = false where id = row_id;
    delete from public."Learned_Pictures" where training_id = row_id;
end $$;

-- Deletes a row, and keeps the hash of its picture. Repeating it changes nothing.
create or replace function public.delete_training_data(row_id uuid) returns void language sql set search_path = '' as $$
    with gone as (delete from public."Training_Data" where id = row_id returning sha256)
    insert into public."Deleted_Pictures" (sha256) select sha256 from gone
        on conflict (sha256) do update set deleted_at = excluded.deleted_at;
$$;

-- The hashes of all deleted pictures. One value, so that no limit on rows cuts it.
create or replace function public.deleted_pictures() returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(sha256), '[]') from public."Deleted_Pictures";
$$;

-- As before; a picture that is added does not count as deleted any more.
create or replace function public.add_training_data(rows json) returns json language sql set search_path = '' as $$
    delete from public."Deleted_Pictures"
        using json_populate_recordset(null::public."Training_Data", rows) sent
        where "Deleted_Pictures".sha256 = sent.sha256;
    insert into public."Training_Data"
        select * from json_populate_recordset(null::public."Training_Data", rows)
        on conflict (sha256) do nothing;
    select coalesce(json_agg(kept.id), '[]')
        from public."Training_Data" kept
        join json_populate_recordset(null::public."Training_Data", rows) sent using (id);
$$;

-- Keeps a candidate, and what it learned ({id: label}; only rows that still have that label). Repeating it changes
-- nothing.
create or replace function public.prepare_publication(candidate json, learned json) returns void language plpgsql
set search_path = '' as $$
declare
    new public."Model_Versions" := json_populate_record(null::public."Model_Versions", candidate);
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    new.state := 'candidate';
    insert into public."Model_Versions" values (new.*) on conflict (version) do nothing;
    insert into public."Learned_Pictures" (version, training_id)
        select new.version, picture.id
        from json_each_text(learned) as lesson(id, label)
        join public."Training_Data" picture on picture.id = lesson.id::uuid and picture.shoe_class = lesson.label
        on conflict do nothing;
end $$;

-- Makes a version live. A training row is processed when that version or one of its ancestors learned it.
create or replace function public.set_live_version(wanted text) returns void language plpgsql
set search_path = '' as $$
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    if not exists (select from public."Model_Versions" where version = wanted) then
        raise exception 'version % does not exist', wanted using errcode = 'no_data_found';
    end if;
    update public."Model_Versions" set state = 'archived' where state = 'live' and version <> wanted;
    update public."Model_Versions" set state = 'live' where version = wanted and state <> 'live';
    with recursive lineage (version) as (
        select wanted
        union
        select one.parent from public."Model_Versions" one join lineage using (version) where one.parent is not null
    )
    update public."Training_Data" picture set is_processed = not picture.is_processed
        where picture.is_processed <> (
            picture.id in (select training_id from public."Learned_Pictures" join lineage using (version))
        );
end $$;

-- Keeps the progress of a running job. False when it was cancelled from elsewhere or counts as lost: nothing is kept.
create or replace function public.report_retrain(job json, instance uuid) returns boolean language plpgsql
set search_path = '' as $$
declare
    new public."Retrain_Jobs" := json_populate_record(null::public."Retrain_Jobs", job);
begin
    update public."Retrain_Jobs"
        set state = new.state, mode = new.mode, phase = new.phase, progress = new.progress, message = new.message,
            samples = new.samples, labels = new.labels, metrics = new.metrics, baseline = new.baseline,
            seconds_left = new.seconds_left, started_at = new.started_at, heartbeat_at = now(),
            epoch = new.epoch, epochs = new.epochs, loss = new.loss
        where job_id = new.job_id and claimed_by = instance and state in ('queued', 'running') and phase <> 'cancelling';
    return found;
end $$;

-- Ends a job and makes the version that it published live, in one transaction. False when the job does not belong to
-- this instance any more. Repeated after a lost answer, it returns the same.
create or replace function public.finish_retrain(job json, instance uuid) returns boolean language plpgsql
set search_path = '' as $$
declare
    new public."Retrain_Jobs" := json_populate_record(null::public."Retrain_Jobs", job);
    old public."Retrain_Jobs";
begin
    select * into old from public."Retrain_Jobs" where job_id = new.job_id for update;
    if not found or old.claimed_by is distinct from instance then
        return false;
    end if;
    if old.state not in ('queued', 'running') then
        return old.state = new.state;
    end if;
    new.claimed_by := instance;
    new.heartbeat_at := now();
    delete from public."Retrain_Jobs" where job_id = new.job_id;
    insert into public."Retrain_Jobs" values (new.*);
    if new.state = 'published' then
        perform public.set_live_version(new.model_version);
    end if;
    return true;
end $$;

-- What `supabase check` compares with what the service needs.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 2,
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
                    'Deleted_Pictures'
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
                    'set_live_version', 'describe_shoe_classifier'
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
        'relabel_training_data(uuid, text)', 'delete_training_data(uuid)', 'deleted_pictures()',
        'add_training_data(json)', 'prepare_publication(json, json)', 'finish_retrain(json, uuid)',
        'set_live_version(text)', 'report_retrain(json, uuid)', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
