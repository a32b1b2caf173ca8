-- When a credential was last changed: of an account, by its id, or of an
-- integration's connector, by the integration's id.

-- +goose Up
create table rotations (
    subject text primary key,
    at      text not null,
    stuck   text not null default '' -- why the last change failed half way
);
insert into rotations (subject, at) select account_id, strftime('%Y-%m-%dT%H:%M:%S.000000000Z', 'now') from credentials;
