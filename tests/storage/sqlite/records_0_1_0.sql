-- A file of records as release 0.1.0 wrote it: its schema, and rows in every table.
create table if not exists Predict (
    id text primary key, image_path text, predicted_class text not null, confidence_score real not null,
    decision text not null, probabilities text not null, model_version text not null,
    response_time real not null, created_at text not null
) without rowid;
create table if not exists Training_Data (
    id text primary key, image_path text not null, sha256 text not null unique, shoe_class text not null,
    is_processed integer not null default 0, split text not null, source text not null,
    upload_id text not null, uploaded_at text not null
) without rowid;
create index if not exists training_data_unprocessed on Training_Data (id) where is_processed = 0;
create index if not exists training_data_class on Training_Data (shoe_class);
create table if not exists Model_Versions (
    version text primary key, sha256 text not null, labels text not null, metrics text, parent text,
    state text not null, file_path text not null, created_at text not null
) without rowid;
create index if not exists model_versions_sha256 on Model_Versions (sha256);
create table if not exists Retrain_Jobs (
    job_id text primary key, state text not null, mode text not null, phase text not null, progress real not null,
    message text not null, samples integer not null, labels text not null, metrics text, baseline text,
    model_version text, error text, force integer not null, seconds_left real,
    created_at text not null, started_at text, finished_at text
) without rowid;
create table if not exists System_Metrics (
    timestamp text primary key, request_count integer not null, avg_response_time real not null,
    model_uptime_status text not null
) without rowid;

insert into Predict values (
    '019a0000-0000-7000-8000-000000000001', 'images/ab/ab01.jpg', 'Boot', 0.9, 'accepted', '{"Shoe":0.1,"Boot":0.9}', 'v2',
    1.5, '2026-11-20T10:00:00.000Z'
);
insert into Predict values (
    '019a0000-0000-7000-8000-000000000002', null, 'Shoe', 0.5, 'uncertain', '{"Shoe":0.5,"Boot":0.5}', 'v2',
    2.5, '2026-11-20T10:01:00.000Z'
);
insert into Training_Data values (
    '019a0000-0000-7000-8000-000000000011', 'images/cd/cd01.jpg', 'cd01', 'Boot', 1, 'train', 'zip',
    '019a0000-0000-7000-8000-000000000020', '2026-11-19T10:00:00.000Z'
);
insert into Training_Data values (
    '019a0000-0000-7000-8000-000000000012', 'images/cd/cd02.png', 'cd02', 'Shoe', 1, 'holdout', 'feedback',
    '019a0000-0000-7000-8000-000000000021', '2026-11-19T10:01:00.000Z'
);
insert into Training_Data values (
    '019a0000-0000-7000-8000-000000000013', 'images/cd/cd03.jpg', 'cd03', 'Hat', 0, 'train', 'zip',
    '019a0000-0000-7000-8000-000000000022', '2026-11-20T10:02:00.000Z'
);
insert into Model_Versions values (
    'v1', 'sha-v1', '["Boot", "Shoe"]', null, null, 'archived', 'versions/v1.h5', '2026-11-18T10:00:00.000Z'
);
insert into Model_Versions values (
    'v2', 'sha-v2', '["Boot", "Shoe"]', '{"accuracy": 0.9}', 'v1', 'live', 'versions/v2.h5', '2026-11-19T11:00:00.000Z'
);
insert into Retrain_Jobs values (
    '019a0000-0000-7000-8000-000000000031', 'published', 'quick', 'published', 1.0, 'Published.', 2, '["Boot", "Shoe"]',
    '{"accuracy": 0.9}', '{"accuracy": 0.8}', 'v2', null, 1, null,
    '2026-11-19T10:59:00.000Z', '2026-11-19T10:59:01.000Z', '2026-11-19T11:00:00.000Z'
);
insert into System_Metrics values ('2026-11-20T10:00:00.000Z', 5, 1.5, 'ready');
