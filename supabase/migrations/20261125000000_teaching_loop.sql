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

-- How many rows there are of each kind, kept by triggers: counting ten million takes a second, and minutes by day.
create table if not exists public."Prediction_Counts" (
    day date not null, -- UTC
    predicted_class text not null,
    model_version text not null,
    decision text not null,
    rows bigint not null,
    primary key (day, predicted_class, model_version, decision)
) with (fillfactor = 50);
create table if not exists public."Training_Counts" (
    shoe_class text not null,
    split text not null,
    is_processed boolean not null,
    rows bigint not null,
    primary key (shoe_class, split, is_processed)
) with (fillfactor = 50);

-- In order, so that two transactions that change the same counts wait for each other only once.
create or replace function public.count_predictions_changed() returns trigger language plpgsql set search_path = '' as $$
declare
    one integer := case when tg_op = 'DELETE' then -1 else 1 end;
begin
    insert into public."Prediction_Counts" as kept
        select (created_at at time zone 'UTC')::date, predicted_class, model_version, decision, one * count(*)
            from changed group by 1, 2, 3, 4 order by 1, 2, 3, 4
        on conflict (day, predicted_class, model_version, decision) do update set rows = kept.rows + excluded.rows;
    return null;
end $$;

create or replace function public.count_pictures_changed() returns trigger language plpgsql set search_path = '' as $$
begin
    if tg_op = 'UPDATE' then
        insert into public."Training_Counts" as kept
            select shoe_class, split, is_processed, sum(n) from (
                select shoe_class, split, is_processed, 1 as n from changed
                union all select shoe_class, split, is_processed, -1 from before_change
            ) change group by 1, 2, 3 having sum(n) <> 0 order by 1, 2, 3
            on conflict (shoe_class, split, is_processed) do update set rows = kept.rows + excluded.rows;
    else
        insert into public."Training_Counts" as kept
            select shoe_class, split, is_processed, case when tg_op = 'DELETE' then -1 else 1 end * count(*)
                from changed group by 1, 2, 3 order by 1, 2, 3
            on conflict (shoe_class, split, is_processed) do update set rows = kept.rows + excluded.rows;
    end if;
    return null;
end $$;

-- What is there already is counted once, together with the triggers, while nothing is written.
do $$
begin
    if not exists (select from pg_catalog.pg_trigger where tgname = 'count_added_predictions') then
        lock table public."Predict", public."Training_Data" in share row exclusive mode;
        insert into public."Prediction_Counts"
            select (created_at at time zone 'UTC')::date, predicted_class, model_version, decision, count(*)
                from public."Predict" group by 1, 2, 3, 4;
        insert into public."Training_Counts"
            select shoe_class, split, is_processed, count(*) from public."Training_Data" group by 1, 2, 3;
        create trigger count_added_predictions after insert on public."Predict"
            referencing new table as changed for each statement execute function public.count_predictions_changed();
        create trigger count_deleted_predictions after delete on public."Predict"
            referencing old table as changed for each statement execute function public.count_predictions_changed();
        create trigger count_added_pictures after insert on public."Training_Data"
            referencing new table as changed for each statement execute function public.count_pictures_changed();
        create trigger count_deleted_pictures after delete on public."Training_Data"
            referencing old table as changed for each statement execute function public.count_pictures_changed();
        create trigger count_changed_pictures after update on public."Training_Data"
            referencing old table as before_change new table as changed
            for each statement execute function public.count_pictures_changed();
    end if;
end $$;

alter table public."Prediction_Counts" enable row level security;
alter table public."Training_Counts" enable row level security;
revoke all on public."Prediction_Counts", public."Training_Counts" from anon, authenticated;
grant select, insert, update, delete on public."Prediction_Counts", public."Training_Counts" to service_role;

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

create table if not exists public."Label_Changes" (
    id uuid primary key,
    label text not null,
    name text,
    changed_at timestamptz not null
);

-- What a change did to a training picture, until it cannot be undone. `picture` is the row of one that was removed.
create table if not exists public."Changed_Pictures" (
    change_id uuid not null,
    training_id uuid not null,
    sha256 text not null,
    picture json,
    versions json not null,
    primary key (change_id, training_id)
);
create index if not exists changed_pictures_sha256 on public."Changed_Pictures" (sha256) where picture is not null;

-- Those of the pictures that a prediction, a training row or one that can be brought back still uses.
create or replace function public.pictures_in_use(image_paths text[]) returns json language sql stable
set search_path = '' as $$
    select coalesce(json_agg(path), '[]') from unnest(image_paths) path
        where exists (select from public."Predict" where image_path = path)
            or exists (select from public."Training_Data" where sha256 = substr(path, 11, 64))
            or exists (
                select from public."Changed_Pictures" where sha256 = substr(path, 11, 64) and picture is not null
            );
$$;

-- The oldest predictions in a range of ids that nobody has reviewed and whose picture is no training picture. Two queries,
-- because only one of them finds the index of those that have a picture.
create or replace function public.expendable_predictions(
    after uuid, before uuid, with_picture boolean, max_rows integer
) returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(row_to_json(oldest) order by oldest.id), '[]') from (
        (select row.* from public."Predict" row
            where with_picture and row.image_path is not null
                and row.reviewed_at is null and row.id > after and row.id < before
                and not exists (select from public."Training_Data" where sha256 = substr(row.image_path, 11, 64))
                and not exists (
                    select from public."Changed_Pictures" removed
                    where removed.sha256 = substr(row.image_path, 11, 64) and removed.picture is not null
                )
            order by row.id limit max_rows)
        union all
        (select row.* from public."Predict" row
            where not with_picture
                and row.reviewed_at is null and row.id > after and row.id < before
                and not exists (select from public."Training_Data" where sha256 = substr(row.image_path, 11, 64))
                and not exists (
                    select from public."Changed_Pictures" removed
                    where removed.sha256 = substr(row.image_path, 11, 64) and removed.picture is not null
                )
            order by row.id limit max_rows)
    ) oldest;
$$;

-- Number and bytes of those of the next pictures that retention may delete, and the last path looked at. In steps, because
-- a hosted project ends a statement after 8 seconds.
create or replace function public.picture_sizes(after text, max_rows integer) returns json language sql stable
set search_path = '' as $$
    select json_build_object('last', max(image_path), 'pictures', count(size), 'bytes', coalesce(sum(size), 0)) from (
        select image_path, case when reviewed = 0 and not exists (
            select from public."Training_Data" where sha256 = substr(picture.image_path, 11, 64)
        ) and not exists (
            select from public."Changed_Pictures" removed
            where removed.sha256 = substr(picture.image_path, 11, 64) and removed.picture is not null
        ) then coalesce(bytes, 0) end as size
        from (
            select image_path, max(image_bytes) as bytes, count(reviewed_at) as reviewed from public."Predict"
                where image_path > after group by image_path order by image_path limit max_rows
        ) picture
    ) sized;
$$;

-- Rows, and the time of the oldest.
create or replace function public.kept_predictions() returns json language sql stable set search_path = '' as $$
    select json_build_object(
        'rows', (select coalesce(sum(rows), 0) from public."Prediction_Counts"),
        'oldest', (select created_at from public."Predict" order by id limit 1)
    );
$$;

-- The predictions that wait for a review, without the table.
create index if not exists predict_undecided on public."Predict" (decision, id)
    where review_kind is null and reviewed_at is null and image_path is not null;
create index if not exists predict_drawn on public."Predict" (review_kind, id)
    where review_kind is not null and reviewed_at is null and image_path is not null;
create index if not exists predict_reviewed on public."Predict" (review_kind, id)
    where review_kind is not null and reviewed_at is not null;

-- The predictions of the days from `first` on and before `last`, of a label, a decision and a version; null means any.
create or replace function public.count_predictions(
    label text, decided text, version text, first date, last date
) returns bigint language sql stable set search_path = '' as $$
    select coalesce(sum(rows), 0)::bigint from public."Prediction_Counts"
        where (label is null or predicted_class = label) and (decided is null or decision = decided)
            and (version is null or model_version = version)
            and (first is null or day >= first) and (last is null or day < last);
$$;

-- The training pictures of a label and a split, learnt or not; null means any.
create or replace function public.count_pictures(label text, wanted_split text, learnt boolean) returns bigint
language sql stable set search_path = '' as $$
    select coalesce(sum(rows), 0)::bigint from public."Training_Counts"
        where (label is null or shoe_class = label) and (wanted_split is null or split = wanted_split)
            and (learnt is null or is_processed = learnt);
$$;

-- The predictions of the days (UTC) from `first` on, by day, version and decision. One value, so that no limit on rows
-- cuts it.
create or replace function public.decision_counts(first date) returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(row_to_json(counted)), '[]') from (
        select to_char(day, 'YYYY-MM-DD') as day, model_version, decision, sum(rows)::bigint as count
        from public."Prediction_Counts" where day >= first and rows > 0 group by 1, 2, 3
    ) counted;
$$;

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
alter table public."Changed_Pictures" enable row level security;
alter table public."Kept_Pictures" enable row level security;
revoke all on public."Label_Changes", public."Changed_Pictures", public."Kept_Pictures" from anon, authenticated;
grant select, insert, update, delete on public."Label_Changes", public."Changed_Pictures", public."Kept_Pictures"
    to service_role;

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

-- {label: number of pictures}, in the order in which the labels came; and the same with {pictures, held_out, learnt}.
create or replace function public.training_labels() returns json language sql stable set search_path = '' as $$
    select coalesce(json_object_agg(shoe_class, n order by first), '{}') from (
        select shoe_class, sum(rows)::bigint as n, (
            select id from public."Training_Data" picture where picture.shoe_class = kept.shoe_class order by id limit 1
        ) as first
        from public."Training_Counts" kept group by shoe_class having sum(rows) > 0
    ) labels;
$$;

create or replace function public.label_counts() returns json language sql stable set search_path = '' as $$
    select coalesce(json_object_agg(shoe_class, counts order by first), '{}') from (
        select shoe_class, json_build_object(
            'pictures', sum(rows)::bigint,
            'held_out', coalesce(sum(rows) filter (where split = 'holdout'), 0)::bigint,
            'learnt', coalesce(sum(rows) filter (where is_processed), 0)::bigint
        ) as counts, (
            select id from public."Training_Data" picture where picture.shoe_class = kept.shoe_class order by id limit 1
        ) as first
        from public."Training_Counts" kept group by shoe_class having sum(rows) > 0
    ) labels;
$$;

-- The pictures that would wait if a version were live.
create or replace function public.count_unlearned(version text) returns bigint language sql stable
set search_path = '' set work_mem = '32MB' as $$
    with recursive lineage (name) as (
        select count_unlearned.version
        union
        select one.parent from public."Model_Versions" one join lineage on one.version = name where one.parent is not null
    ), learned as (
        select training_id from public."Learned_Pictures" known join lineage on known.version = name
    )
    select count(*) from public."Training_Data" where not exists (select from learned where training_id = id);
$$;

-- As before, in time that grows with the rows and not with their square: what was learned is joined, because a list of it
-- that does not fit into memory is searched anew for each row.
create or replace function public.set_live_version(wanted text) returns void language plpgsql
set search_path = '' set work_mem = '32MB' as $$
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
    ), learned as (
        select training_id from public."Learned_Pictures" join lineage using (version)
    ), changed as (
        select id from public."Training_Data"
            where is_processed and not exists (select from learned where training_id = id)
        union all
        select id from public."Training_Data"
            where not is_processed and exists (select from learned where training_id = id)
    )
    update public."Training_Data" picture set is_processed = not picture.is_processed
        from changed where picture.id = changed.id;
end $$;

-- Keeps a change of a label, and renames the label of its pictures, or deletes them. Returns how many these were.
create or replace function public.change_label(change json) returns integer language plpgsql set search_path = '' as $$
declare
    new public."Label_Changes" := json_populate_record(null::public."Label_Changes", change);
    pictures uuid[];
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    insert into public."Label_Changes" values (new.*) on conflict do nothing;
    select coalesce(array_agg(id), '{}') into pictures from public."Training_Data" where shoe_class = new.label;
    insert into public."Changed_Pictures" (change_id, training_id, sha256, picture, versions)
        select new.id, row.id, row.sha256, case when new.name is null then row_to_json(row) end, (
            select coalesce(json_agg(version), '[]') from public."Learned_Pictures"
            where new.name is null and training_id = row.id
        )
        from public."Training_Data" row where row.id = any(pictures);
    if new.name is null then
        perform public.delete_pictures(pictures);
    else
        update public."Training_Data" set shoe_class = new.name where id = any(pictures);
        update public."Kept_Pictures" set shoe_class = new.name where shoe_class = new.label;
    end if;
    return cardinality(pictures);
end $$;

-- Takes the newest change back. Returns how many pictures are as before; null if it is not the newest one.
create or replace function public.undo_change(undone uuid) returns integer language plpgsql set search_path = '' as $$
declare
    change public."Label_Changes";
    pictures integer;
begin
    lock table public."Learned_Pictures" in share row exclusive mode;
    delete from public."Label_Changes"
        where id = undone and not exists (select from public."Label_Changes" newer where newer.id > undone)
        returning * into change;
    if not found then
        return null;
    end if;
    update public."Training_Data" row set shoe_class = change.label from public."Changed_Pictures" changed
        where changed.change_id = undone and changed.picture is null
            and row.id = changed.training_id and row.shoe_class = change.name;
    update public."Kept_Pictures" kept set shoe_class = change.label from public."Changed_Pictures" changed
        where changed.change_id = undone and changed.picture is null
            and kept.training_id = changed.training_id and kept.shoe_class = change.name;
    insert into public."Training_Data"
        select row.* from public."Changed_Pictures" changed,
            json_populate_record(null::public."Training_Data", changed.picture) row
        where changed.change_id = undone and changed.picture is not null
        on conflict (sha256) do nothing;
    insert into public."Learned_Pictures" (version, training_id)
        select version, changed.training_id
        from public."Changed_Pictures" changed
        join public."Training_Data" picture on picture.id = changed.training_id,
            json_array_elements_text(changed.versions) version
        where changed.change_id = undone
        on conflict do nothing;
    delete from public."Deleted_Pictures" gone using public."Changed_Pictures" changed
        where changed.change_id = undone and changed.picture is not null and gone.sha256 = changed.sha256;
    delete from public."Changed_Pictures" where change_id = undone;
    get diagnostics pictures = row_count;
    perform public.set_live_version(version) from public."Model_Versions" where state = 'live';
    return pictures;
end $$;

-- The pictures of labels removed up to a change that nothing else uses.
create or replace function public.removed_pictures(last uuid) returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(distinct removed.path), '[]') from (
        select picture ->> 'image_path' as path, sha256 from public."Changed_Pictures"
        where change_id <= last and picture is not null
    ) removed
    where not exists (select from public."Predict" where image_path = removed.path)
        and not exists (select from public."Training_Data" row where row.sha256 = removed.sha256)
        and not exists (
            select from public."Changed_Pictures" later
            where later.change_id > last and later.sha256 = removed.sha256 and later.picture is not null
        );
$$;

create or replace function public.settle_changes(last uuid) returns void language sql set search_path = '' as $$
    delete from public."Changed_Pictures" where change_id <= last;
$$;

create or replace function public.label_changes() returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(change order by id), '[]') from public."Label_Changes" change;
$$;

create or replace function public.kept_pictures() returns json language sql stable set search_path = '' as $$
    select coalesce(json_agg(kept), '[]') from public."Kept_Pictures" kept;
$$;

-- These change up to all training pictures. A hosted project would end them after 8 seconds, and again at each attempt.
alter function public.prepare_publication(json, json) set statement_timeout = '15min';
alter function public.finish_retrain(json, uuid) set statement_timeout = '15min';
alter function public.set_live_version(text) set statement_timeout = '15min';
alter function public.change_label(json) set statement_timeout = '15min';
alter function public.undo_change(uuid) set statement_timeout = '15min';

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
        'review_prediction(uuid, text, text, timestamptz, json)', 'pictures_in_use(text[])',
        'expendable_predictions(uuid, uuid, boolean, integer)', 'kept_predictions()', 'picture_sizes(text, integer)',
        'decision_counts(date)', 'count_predictions(text, text, text, date, date)', 'count_pictures(text, text, boolean)',
        'count_predictions_changed()', 'count_pictures_changed()', 'training_labels()', 'set_live_version(text)',
        'count_unlearned(text)',
        'training_pictures(uuid[])', 'relabel_pictures(uuid[], text)', 'delete_pictures(uuid[])', 'label_counts()',
        'change_label(json)', 'undo_change(uuid)', 'removed_pictures(uuid)', 'settle_changes(uuid)', 'label_changes()',
        'kept_pictures()', 'describe_shoe_classifier()'
    ] loop
        execute format('revoke all on function public.%s from public, anon, authenticated', name);
        execute format('grant execute on function public.%s to service_role', name);
    end loop;
end $$;

notify pgrst, 'reload schema';
