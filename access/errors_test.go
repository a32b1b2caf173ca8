package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want ErrorKind
	}{
		{"no error has no kind", nil, ""},
		{"any error is unknown", io.EOF, Unknown},
		{"an error of ours says it", Errorf(Auth, "no"), Auth},
		{"a wrapped one too", fmt.Errorf("prod-pg: %w", Errorf(Auth, "no")), Auth},
		{"a joined one too", errors.Join(io.EOF, Errorf(Limit, "no")), Limit},
		{"the outer kind counts", Errorf(Retry, "again: %w", Errorf(Auth, "no")), Retry},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := KindOf(c.err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestErrorf(t *testing.T) {
	err := Errorf(Privilege, "granting: %w", io.EOF).WithRemedy("GRANT %s", "x")
	if got, want := err.Error(), "granting: EOF (GRANT x)"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
}

func TestWorst(t *testing.T) {
	limited := &Error{Kind: RateLimited, Text: "slow down", After: time.Minute}
	for _, c := range []struct {
		name string
		errs []error
		want ErrorKind
	}{
		{"nothing went wrong", nil, ""},
		{"nothing went wrong in any step", []error{nil, nil}, ""},
		{"one error is the worst", []error{nil, Errorf(Invalid, "no")}, Invalid},
		{"what needs a human weighs more than what heals", []error{Errorf(Retry, "again"), Errorf(Auth, "no"), Errorf(Conflict, "again")}, Auth},
		{"a missing right weighs more than the unknown", []error{io.EOF, Errorf(Privilege, "no")}, Privilege},
		{"the unknown weighs more than what heals", []error{Errorf(Retry, "again"), io.EOF, limited}, Unknown},
		{"what heals weighs more than what is final, so that it is tried again", []error{Errorf(ResourceMissing, "gone"), Errorf(Retry, "again")}, Retry},
		{"of two alike the first is named", []error{Errorf(Unsupported, "a"), Errorf(Limit, "b")}, Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Worst(c.errs...)
			if got := KindOf(err); got != c.want {
				t.Errorf("got %s (%v), want %s", got, err, c.want)
			}
			for _, e := range c.errs {
				if e != nil && !errors.Is(err, e) {
					t.Errorf("%v is not in the chain of %v", e, err)
				}
			}
		})
	}
	t.Run("the longest delay is kept", func(t *testing.T) {
		e, ok := errors.AsType[*Error](Worst(Errorf(Auth, "no"), limited, &Error{Kind: Retry, After: time.Second}))
		if !ok || e.Kind != Auth || e.After != time.Minute {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("a cause that is cancelled shows through", func(t *testing.T) {
		if err := Worst(fmt.Errorf("reading: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCheckReportOK(t *testing.T) {
	for _, c := range []struct {
		name string
		item CheckItem
		want bool
	}{
		{"what is met is fine", CheckItem{OK: true}, true},
		{"what is not met is not", CheckItem{}, false},
		{"what is optional may be missing", CheckItem{Optional: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (CheckReport{Items: []CheckItem{{OK: true}, c.item}}).OK(); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
