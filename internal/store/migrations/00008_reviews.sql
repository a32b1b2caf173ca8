-- How the review stands of access that was taken at once: due, done or objected.

-- +goose Up
alter table requests add column review text not null default '';
create index requests_review on requests (person_id) where review = 'due';
