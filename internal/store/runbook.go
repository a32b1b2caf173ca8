package store

import (
	"context"
	"time"
)

// RunbookWritten notes that a runbook was written.
func (s *Store) RunbookWritten(ctx context.Context) error {
	return s.setMeta(ctx, "runbook", s.Now().UTC().Format(time.RFC3339Nano))
}

// RunbookAt is when the last runbook was written; zero when none was.
func (s *Store) RunbookAt(ctx context.Context) (time.Time, error) {
	v, err := meta(ctx, s.readers, "runbook")
	if err != nil || v == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339Nano, v)
}
