package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
)

// Copy makes a consistent copy of a SQLite file, of Lapse or of Temporal, also
// while others write to it. The copy must not be there yet.
func Copy(ctx context.Context, from, to string) error {
	db, err := sql.Open(Driver, "file:"+escape(from)+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `vacuum into $1`, to); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return os.Chmod(to, 0o600)
}
