-- What people are told, and over which channels it has yet to be sent.

-- +goose Up
create table notices (
    seq        integer primary key autoincrement, -- in the order in which they were told
    id         text not null unique,
    key        text not null,
    person_id  text not null references people (id),
    kind       text not null,
    request_id text not null default '',
    text       text not null,
    at         text not null,
    seen_at    text,
    unique (person_id, key)
);
create index notices_person on notices (person_id, seq);
create index notices_unseen on notices (person_id, seq) where seen_at is null;
create index notices_at on notices (at);

create table deliveries (
    notice   integer not null references notices (seq) on delete cascade,
    channel  text not null,
    since    text not null,
    attempts integer not null default 0,
    next_at  text,                      -- of the next attempt; null when it is over
    sent_at  text,                      -- null where it is over: given up
    error    text not null default '',  -- of the last attempt
    primary key (notice, channel)
);
create index deliveries_due on deliveries (channel, next_at) where next_at is not null;
