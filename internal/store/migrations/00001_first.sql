-- +goose Up
create table meta (
    name  text primary key,
    value text not null
);

create table configs (
    version  integer primary key,
    saved_at text not null,
    saved_by text not null,
    source   text not null,
    config   text not null -- JSON
);

create table people (
    id     text primary key,
    email  text not null unique,
    person text not null -- JSON
);

-- Every address under which somebody may sign in, aliases too.
create table addresses (
    address   text primary key,
    person_id text not null references people (id)
);

create table integrations (
    id      text primary key,
    name    text not null,
    kind    text not null,
    spec    text not null, -- JSON
    removed boolean not null,
    unique (name, kind)
);

create table resources (
    integration text not null references integrations (id),
    type        text not null,
    path        text not null,
    permissions text, -- JSON
    tags        text, -- JSON
    run         text not null,
    gone        boolean not null,
    primary key (integration, type, path)
);

create table findings (
    integration text primary key references integrations (id),
    run         text not null,
    findings    text -- JSON
);

create table requests (
    id         text primary key,
    person_id  text not null references people (id),
    state      text not null, -- of the decision phase
    why        text not null,
    created_at text not null,
    request    text not null  -- JSON, never changed
);
create index requests_created on requests (created_at, id);
create index requests_person on requests (person_id, created_at);

create table decisions (
    nonce      text primary key,
    request_id text not null references requests (id),
    at         text not null,
    decision   text not null -- JSON, never changed
);
create index decisions_request on decisions (request_id, at);

create table accounts (
    id          text primary key,
    integration text not null references integrations (id),
    person_id   text not null references people (id),
    name        text not null,
    generation  integer not null,
    incarnation integer not null,
    wrote       text, -- JSON
    cleanup_at  text,
    deleted     boolean not null
);
create index accounts_integration on accounts (integration);

create table baselines (
    account_id text not null references accounts (id),
    slot       text not null,
    value      text not null,
    held_as    text, -- JSON
    holds      text, -- JSON
    primary key (account_id, slot)
);

create table holds (
    id              text primary key,
    request_id      text not null references requests (id),
    position        integer not null, -- in the request
    account_id      text not null references accounts (id),
    integration     text not null,
    resource        text not null,
    permission      text not null,
    state           text not null,
    opened          boolean not null, -- something may have been written on the target
    starts_at       text,
    ends_at         text,
    max_end         text,
    error           text not null,
    grant_evidence  text, -- JSON
    revoke_evidence text  -- JSON
);
create index holds_request on holds (request_id, position);
create index holds_account on holds (account_id);
create index holds_state on holds (state);

create table credentials (
    account_id text primary key references accounts (id),
    generation integer not null,
    ciphertext blob, -- null once it was shown or dropped
    dropped    boolean not null
);

create table events (
    seq         integer primary key,
    key         text not null unique,
    kind        text not null,
    at          text not null,
    actor       text not null,
    request_id  text not null,
    hold_id     text not null,
    account_id  text not null,
    integration text not null,
    text        text not null,
    data        text, -- JSON
    hash        text not null
);
create index events_request on events (request_id, seq);
create index events_account on events (account_id, seq);

-- +goose StatementBegin
create trigger events_update before update on events
begin
    select raise(abort, 'the audit trail is append-only');
end;
-- +goose StatementEnd

-- +goose StatementBegin
create trigger events_delete before delete on events
begin
    select raise(abort, 'the audit trail is append-only');
end;
-- +goose StatementEnd
