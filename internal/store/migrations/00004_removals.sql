-- The removal of an integration. One that was forgotten keeps its row, for what
-- names it, under a name that no other can have.

-- +goose Up
alter table integrations add column removal text; -- JSON
