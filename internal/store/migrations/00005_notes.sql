-- What people should know of a resource before they ask for it.

-- +goose Up
alter table resources add column note text not null default '';
