-- An outbox as release 0.1.0 wrote it: its schema, and rows in every table.

create table if not exists Events (
    id text primary key, table_name text not null, row text not null, image_path text
) without rowid;
create index if not exists events_image_path on Events (image_path) where image_path is not null;
create table if not exists Pictures (
    place integer primary key autoincrement, image_path text not null unique, data blob not null,
    sent integer not null default 0
);
create table if not exists Facts (name text primary key, value text not null) without rowid;

insert into Events values (
    '019a0000-0000-7000-8000-000000000001', 'Predict',
    '{"id": "019a0000-0000-7000-8000-000000000001", "image_path": "images/ab/ab01.jpg"}', 'images/ab/ab01.jpg'
);
insert into Events values (
    '019a0000-0000-7000-8000-000000000002', 'System_Metrics',
    '{"id": "019a0000-0000-7000-8000-000000000002", "request_count": 5}', null
);
insert into Pictures (image_path, data) values ('images/ab/ab01.jpg', x'6f6e65');
insert into Facts values ('instance', '019a0000-0000-7000-8000-000000000003');
insert into Facts values ('dropped_rows', '7');
