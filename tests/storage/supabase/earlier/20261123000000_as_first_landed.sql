-- Everything that the service keeps in a Supabase project: five tables, a few functions, two private buckets.
-- Safe to run again. Only the service key may read or write: row level security is on, and no policy lets others in.

create table if not exists public."Predict" (
    id uuid primary key,
    image_path text,
    predicted_class text not null,
    confidence_score double precision not null,
    decision text not null,
    probabilities json not null,
    model_version text not null,
    response_time double precision not null,
    created_at timestamptz not null
);

create table if not exists public."Training_Data" (
    id uuid primary key,
    image_path text not null,
    sha256 text not null unique,
    shoe_class text not null,
    is_processed boolean not null default false,
    split text not null,
    source text not null,
    upload_id uuid not null,
    uploaded_at timestamptz not null
);
create index if not exists training_data_unprocessed on public."Training_Data" (id) where not is_processed;
create index if not exists training_data_processed on public."Training_Data" (id) where is_processed;
create index if not exists training_data_class on public."Training_Data" (shoe_class, id);

create table if not exists public."Model_Versions" (
    version text primary key,
    sha256 text not null,
    labels json not null,
    metrics json,
    parent text,
    state text not null,
    file_path text not null,
    created_at timestamptz not null
);
create index if not exists model_versions_sha256 on public."Model_Versions" (sha256);
create index if not exists model_versions_created on public."Model_Versions" (created_at desc, version desc);
create unique index if not exists model_versions_one_live on public."Model_Versions" (state) where state = 'live';

create table if not exists public."Retrain_Jobs" (
    job_id uuid primary key,
    state text not null,
    mode text not null,
    phase text not null,
    progress double precision not null,
    message text not null,
    samples integer not null,
    labels json not null,
    metrics json,
    baseline json,
    model_version text,
    error text,
    force boolean not null,
    seconds_left double precision,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    claimed_by uuid,
    heartbeat_at timestamptz not null default now()
);
-- One retrain at a time, whatever the number of instances.
create unique index if not exists retrain_jobs_one_running on public."Retrain_Jobs" ((true))
    where state in ('queued', 'running');

create table if not exists public."System_Metrics" (
    id uuid primary key,
    timestamp timestamptz not null,
    request_count integer not null,
    avg_response_time double precision not null,
    model_uptime_status text not null
);
create index if not exists system_metrics_timestamp on public."System_Metrics" (timestamp desc);

alter table public."Predict" enable row level security;
alter table public."Training_Data" enable row level security;
alter table public."Model_Versions" enable row level security;
alter table public."Retrain_Jobs" enable row level security;
alter table public."System_Metrics" enable row level security;

revoke all on public."Predict", public."Training_Data", public."Model_Versions", public."Retrain_Jobs",
    public."System_Metrics" from anon, authenticated;
grant select, insert, update, delete on public."Predict", public."Training_Data", public."Model_Versions",
    public."Retrain_Jobs", public."System_Metrics" to service_role;

-- Rows of one upload, all or none. Sent again after a lost answer, it says the same again.
create or replace function public.add_training_data(rows json) returns json language sql set search_path = '' as $$
    insert into public."Training_Data"
        select * from json_populate_recordset(null::public."Training_Data", rows)
        on conflict (sha256) do nothing;
    select coalesce(json_agg(kept.id), '[]')
        from public."Training_Data" kept
        join json_populate_recordset(null::public."Training_Data", rows) sent using (id);
$$;

-- {hash: label} of those hashes that are known. One value, so that no limit on rows cuts it.
create or replace function public.labels_of_hashes(hashes text[]) returns json language sql stable set search_path = '' as $$
    select coalesce(json_object_agg(sha256, shoe_class), '{}') from public."Training_Data" where sha256 = any(hashes);
$$;

-- {label: number of pictures}, in the order in which the labels came.
create or replace function public.training_labels() returns json language sql stable set search_path = '' as $$
    select coalesce(json_object_agg(shoe_class, n order by first), '{}')
        from (select shoe_class, count(*) n, min(id::text) first from public."Training_Data" group by shoe_class) counted;
$$;

-- Ends the jobs of an instance that was killed: this one's own, and those that have not been heard of for too long.
create or replace function public.fail_lost_jobs(instance uuid, silent_seconds double precision, reason text)
returns void language sql set search_path = '' as $$
    update public."Retrain_Jobs"
        set state = 'failed', phase = 'failed', error = reason, message = reason, finished_at = now()
        where state in ('queued', 'running')
            and (claimed_by = instance or heartbeat_at < now() - make_interval(secs => silent_seconds));
$$;

-- Keeps the new job of an instance, unless another job runs. Sent again, it says the same again.
create or replace function public.start_retrain(job json, instance uuid) returns boolean language plpgsql
set search_path = '' as $$
declare
    new public."Retrain_Jobs" := json_populate_record(null::public."Retrain_Jobs", job);
begin
    new.claimed_by := instance;
    new.heartbeat_at := now();
    insert into public."Retrain_Jobs" values (new.*) on conflict do nothing;
    return exists (select from public."Retrain_Jobs" where job_id = new.job_id and claimed_by = instance);
end $$;

-- Keeps the progress of a running job. False when it was cancelled from elsewhere or taken for lost: nothing is kept.
create or replace function public.report_retrain(job json, instance uuid) returns boolean language plpgsql
set search_path = '' as $$
declare
    new public."Retrain_Jobs" := json_populate_record(null::public."Retrain_Jobs", job);
begin
    update public."Retrain_Jobs"
        set state = new.state, mode = new.mode, phase = new.phase, progress = new.progress, message = new.message,
            samples = new.samples, labels = new.labels, metrics = new.metrics, baseline = new.baseline,
            seconds_left = new.seconds_left, started_at = new.started_at, heartbeat_at = now()
        where job_id = new.job_id and claimed_by = instance and state in ('queued', 'running') and phase <> 'cancelling';
    return found;
end $$;

-- Ends a job: with the version that it published, and the rows that it learnt, in one transaction. False when the job
-- is not this instance's any more. Sent again after a lost answer, it says the same again.
create or replace function public.finish_retrain(job json, instance uuid, learnt uuid[]) returns boolean
language plpgsql set search_path = '' as $$
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
    update public."Training_Data" set is_processed = true where id = any(learnt);
    if new.state = 'published' then
        perform public.set_live_version(new.model_version);
    end if;
    return true;
end $$;

create or replace function public.set_live_version(wanted text) returns void language sql set search_path = '' as $$
    update public."Model_Versions" set state = 'archived' where state = 'live' and version <> wanted;
    update public."Model_Versions" set state = 'live' where version = wanted and state <> 'live';
$$;

-- What `supabase check` compares with what the service needs.
create or replace function public.describe_shoe_classifier() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'revision', 1,
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
                and c.relname in ('Predict', 'Training_Data', 'Model_Versions', 'Retrain_Jobs', 'System_Metrics')
        )
    );
$$;

do $$
declare
    name text;
begin
    foreach name in array array[
        'add_training_data(json)', 'labels_of_hashes(text[])', 'training_labels()',
        'fail_lost_jobs(uuid, double precision, text)', 'start_retrain(json, uuid)', 'report_retrain(json, uuid)',
        'finish_retrain(json, uuid, uuid[])', 'set_live_version(text)', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

-- Both private: pictures and models are reached through the service, or by a signed address.
insert into storage.buckets (id, name, public) values ('uploads', 'uploads', false), ('models', 'models', false)
    on conflict (id) do nothing;

notify pgrst, 'reload schema';
