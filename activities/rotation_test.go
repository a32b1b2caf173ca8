package activities_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store/storetest"
)

// inFile keeps the connector's own secret in a file.
func (c *connector) inFile(t *testing.T) {
	t.Helper()
	c.secret = secrets.Ref{Store: "file", Key: "target.json"}
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "target.json"), []byte(`{"token": "t0ken-1"}`), 0o600))
}

// kept is what stands in the secret's files.
func (c *connector) kept() string {
	var out []string
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		text, _ := os.ReadFile(filepath.Join(c.dir, e.Name()))
		out = append(out, e.Name()+" "+strings.TrimSpace(string(text)))
	}
	return strings.Join(out, ", ")
}

func TestRotateSecret(t *testing.T) {
	held := access.HeldArgs{Account: anas, Want: []access.Entitlement{on("int-1", "read_only")}}
	t.Run("it is changed on the target and in its file", func(t *testing.T) {
		c := newConnector(t)
		c.inFile(t)
		require.NoError(t, do(t, c.Held, held), "an integration is open with the old one")
		done, err := run[access.SecretDone](t, c.RotateSecret, "int-1")
		require.NoError(t, err)
		require.Equal(t, "t0ken-1+", c.target.Token)
		require.Equal(t, `target.json {"token":"t0ken-1+"}`, c.kept())
		require.NoError(t, do(t, c.Held, held))
		text, err := json.Marshal(done)
		require.NoError(t, err)
		require.NotContains(t, string(text)+c.log.String(), "t0ken-1+")
		info, err := os.Stat(filepath.Join(c.dir, "target.json"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	})
	t.Run("one in the environment stays, and it is said why", func(t *testing.T) {
		c := newConnector(t)
		e := applicationError(t, do(t, c.RotateSecret, "int-1"))
		require.Equal(t, string(access.Unsupported), e.Type())
		require.Contains(t, e.Message(), "keep the secret in one")
		require.Equal(t, "t0ken-1", c.target.Token)
	})
	// Wherever it is cut, what comes before the repetition works too: the
	// target takes one of the two values, and both are kept.
	t.Run("between a cut and its repetition everything goes on", func(t *testing.T) {
		for step := 1; ; step++ {
			for _, after := range []bool{false, true} {
				c := newConnector(t)
				c.inFile(t)
				require.NoError(t, do(t, c.Held, held))
				c.target.Around = storetest.Do
				ctx, steps := storetest.Cut(t.Context(), step, after)
				_, err := runUnder[any](ctx, t, c.RotateSecret, "int-1")
				if steps.Made() < step {
					require.Greater(t, step, 2, "there was nothing to cut")
					return
				}
				require.Error(t, err)
				for _, activity := range []func() error{
					func() error { return do(t, c.Held, held) },
					func() error {
						report, err := run[access.CheckReport](t, c.Check, "int-1")
						if err == nil && !report.OK() {
							err = fmt.Errorf("%+v", report)
						}
						return err
					},
				} {
					c.Close() // another process
					require.NoError(t, activity(), "cut at step %d, after its effect: %t; files: %s", step, after, c.kept())
				}
			}
		}
	})
	t.Run("a target that takes the new one and lets nobody in keeps both", func(t *testing.T) {
		c := newConnector(t)
		c.inFile(t)
		c.target.Before = func(_ context.Context, operation, _ string) error {
			if operation == "Accounts" {
				return access.Errorf(access.Auth, "no")
			}
			return nil
		}
		e := applicationError(t, do(t, c.RotateSecret, "int-1"))
		require.Contains(t, e.Message(), "both are kept")
		require.Equal(t, `target.json {"token": "t0ken-1"}, target.json.next {"token":"t0ken-1+"}`, c.kept())
	})
}

func TestPlanRotation(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		config   config.Integration
		age      time.Duration // of all credentials
		stuck    string
		held     bool
		args     access.RotationArgs
		secret   bool
		accounts int
		why      string
	}{
		{name: "nothing is to be changed", age: 100 * day, held: true, why: "nothing is due"},
		{name: "a credential is old enough", config: config.Integration{CredentialRotationDays: 30}, age: 30 * day, held: true, accounts: 1},
		{name: "a credential is not", config: config.Integration{CredentialRotationDays: 30}, age: 30*day - time.Minute, held: true, why: "nothing is due"},
		{name: "a stuck one is tried again", config: config.Integration{CredentialRotationDays: 30}, age: day, stuck: "no route", held: true, accounts: 1},
		{name: "nothing is held under it", config: config.Integration{CredentialRotationDays: 30}, age: 31 * day, why: "nothing is due"},
		{name: "the connector's own secret is old enough", config: config.Integration{SecretRotationDays: 90}, age: 90 * day, held: true, secret: true},
		{name: "it is not the time for it", config: config.Integration{CredentialRotationDays: 30, Rotation: config.Rotation{Window: "02:00-03:00", TimeZone: "UTC"}}, age: 31 * day, held: true,
			why: "it is not the time for it: rotation.window is 02:00-03:00"},
		{name: "now, due or not", config: config.Integration{Rotation: config.Rotation{Window: "02:00-03:00", TimeZone: "UTC"}}, held: true, args: access.RotationArgs{Now: true}, accounts: 1},
		{name: "now, the secret only", held: true, args: access.RotationArgs{Now: true, Secret: true}, secret: true},
		{name: "now, somebody else", held: true, args: access.RotationArgs{Now: true, AccountID: "int-1/nobody"}, why: "nothing is due"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			noon := time.Now().UTC().Truncate(day).Add(12 * time.Hour)
			w.Store.Now = func() time.Time { return noon.Add(-c.age) }
			in := &w.cfg.Integrations[0]
			in.CredentialRotationDays, in.SecretRotationDays, in.Rotation = c.config.CredentialRotationDays, c.config.SecretRotationDays, c.config.Rotation
			w.apply()
			r := w.approved("r1", "read_only")
			if c.held {
				w.holds(r, access.StateActive, -time.Minute, 1000*day)
			}
			require.NoError(t, w.Store.PutCredential(t.Context(), w.account(), 1, []byte("sealed")))
			_, _, err := w.Store.Rotations(t.Context(), w.pg.ID)
			require.NoError(t, err)
			if c.stuck != "" {
				w.record(access.Change{Rotation: &access.RotationChange{Subject: w.account(), Stuck: c.stuck}})
			}
			w.Store.Now = func() time.Time { return noon }
			c.args.Integration = w.pg.ID
			p, err := run[access.RotationPlan](t, w.PlanRotation, c.args)
			require.NoError(t, err)
			require.Equal(t, c.why, p.Why)
			require.Equal(t, c.secret, p.Secret)
			require.Len(t, p.Accounts, c.accounts)
			for _, a := range p.Accounts {
				require.Equal(t, []string{r.HoldIDs[0]}, a.HoldIDs)
				require.Equal(t, "ana@example.com", a.Email)
			}
		})
	}
	t.Run("after a restore nothing is", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, w.Store.SetEpoch(t.Context(), 3, 3))
		w.temporal.epoch = 8
		p, err := run[access.RotationPlan](t, w.PlanRotation, access.RotationArgs{Integration: w.pg.ID, Now: true, Secret: true})
		require.NoError(t, err)
		require.False(t, p.Secret)
		require.Contains(t, p.Why, "restored")
	})
	t.Run("an integration that is gone has nothing to change", func(t *testing.T) {
		p, err := run[access.RotationPlan](t, newWorld(t).PlanRotation, access.RotationArgs{Integration: "int-nothing"})
		require.NoError(t, err)
		require.NotEmpty(t, p.Why)
	})
}
