-- What automatic access flows gave, and what they leave alone.

-- +goose Up
-- The requests that they made: one by one for each flow and person.
create table leases (
    request_id text primary key references requests (id),
    flow       text not null,
    person_id  text not null references people (id),
    round      integer not null,
    started    boolean not null default false, -- its workflow was
    over       boolean not null default false, -- nothing can come of it any more
    unique (flow, person_id, round)
);
create index leases_open on leases (flow, person_id, round) where not over;

create table withheld (
    flow        text not null,
    person_id   text not null references people (id),
    integration text not null,
    resource    text not null,
    permission  text not null,
    hold_id     text not null, -- that was ended by hand, or failed
    why         text not null,
    failures    integer not null, -- in a row; 0 for what was ended by hand
    until       text,             -- when it is tried again
    primary key (flow, person_id, integration, resource, permission)
);
