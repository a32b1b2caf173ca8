-- Files that were proposed, where the configuration in force wants two persons
-- for a change.

-- +goose Up
create table proposals (
    id         text primary key,
    created_at text not null,
    state      text not null, -- open, or how it ended
    proposal   text not null, -- JSON
    source     text not null
);
create index proposals_created on proposals (created_at, id);
create index proposals_state on proposals (state);
