-- What lists are read by, so that a page of one takes the same time whatever
-- else is in the store.

-- +goose Up
-- Where a request stands: waiting, open or over.
alter table requests add column phase text not null default 'waiting';
update requests set phase = case
    when state = 'pending' then 'waiting'
    when state <> 'approved' then 'over'
    when exists (select 1 from holds where holds.request_id = requests.id and holds.state in ('granting', 'active', 'ending', 'overdue')) then 'open'
    when exists (select 1 from holds where holds.request_id = requests.id and holds.state in ('pending', 'approved')) then 'waiting'
    else 'over' end;
create index requests_phase on requests (phase, created_at, id);
create index requests_person_phase on requests (person_id, phase, created_at, id);

-- Who may be able to decide on a request that is pending, by attributes.
create table deciders (
    decider    text not null, -- ATTRIBUTE=VALUE
    created_at text not null, -- of the request
    request_id text not null references requests (id),
    primary key (decider, created_at, request_id)
);
create index deciders_request on deciders (request_id);

create index holds_open on holds (ends_at, id) where opened and state not in ('ended', 'denied', 'expired', 'failed');

create index events_account_request on events (account_id, request_id, seq);
