package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// A secret that is being changed has two values until the new one is proven:
// the file itself, and beside it a file with the next one. A process that is
// killed at any moment leaves both, and whoever comes next finds out which of
// them the target takes.

// next is the suffix of the file with a secret's next value.
const next = ".next"

// Rotatable says why Lapse cannot write a secret; nil means that it can.
func (r *Resolver) Rotatable(ref Ref) error {
	if ref.Store != "file" {
		return fmt.Errorf("secret %s: Lapse writes files only; keep the secret in one, or change it by hand", ref)
	}
	return nil
}

// Changing reports whether a secret has a next value: its change is under way,
// or was cut.
func (r *Resolver) Changing(ref Ref) bool {
	if r.Rotatable(ref) != nil {
		return false
	}
	_, err := os.Stat(r.path(ref) + next)
	return !errors.Is(err, fs.ErrNotExist)
}

// Next fetches the next value of a secret that is being changed.
func (r *Resolver) Next(ctx context.Context, ref Ref) (Value, error) {
	return r.value(ctx, Ref{Store: ref.Store, Key: ref.Key + next})
}

// Values are those that a secret may have at this moment: the present one and,
// while it is being changed, the next one.
func (r *Resolver) Values(ctx context.Context, ref Ref) ([]Value, error) {
	changing := r.Changing(ref) // before the present one is read: it may be promoted meanwhile
	present, err := r.value(ctx, ref)
	if err != nil || !changing {
		return []Value{present}, err
	}
	next, err := r.Next(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		present, err = r.value(ctx, ref)
		return []Value{present}, err
	}
	return []Value{present, next}, err
}

// ErrChanging is in the chain of the error of Prepare where another process
// came first.
var ErrChanging = errors.New("its change is under way")

// Prepare writes the next value of a secret, durably, before the target is told.
func (r *Resolver) Prepare(ref Ref, value any) error {
	if err := r.Rotatable(ref); err != nil {
		return err
	}
	text, err := encode(ref, value)
	if err != nil {
		return err
	}
	path := r.path(ref) + next
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("secret %s: %w", ref, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("secret %s: %w", ref, err)
	}
	// A link, other than a rename, never replaces what is there.
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("secret %s: %w", ref, ErrChanging)
	case err != nil:
		return fmt.Errorf("secret %s: %w", ref, err)
	}
	return syncFolder(filepath.Dir(path))
}

// Promote makes the next value, which was proven, the secret, in one step.
// Where another one, or none, is there, somebody else did it before.
func (r *Resolver) Promote(ref Ref, proven any) error {
	text, err := encode(ref, proven)
	if err != nil {
		return err
	}
	path := r.path(ref)
	there, err := os.ReadFile(path + next)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(there, text) {
		return nil
	}
	if err == nil {
		err = os.Rename(path+next, path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", ref, err)
	}
	return nil
}

// syncFolder makes what was done in a folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// encode is a secret's struct as it stands in its file.
func encode(ref Ref, value any) ([]byte, error) {
	text, err := json.Marshal(revealed(value))
	if err != nil {
		return nil, fmt.Errorf("secret %s: it cannot be written", ref)
	}
	return append(text, '\n'), nil
}

// revealed are the fields of a secret's struct, readable.
func revealed(value any) map[string]any {
	v := reflect.Indirect(reflect.ValueOf(value))
	out := map[string]any{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		switch field := v.Field(i).Interface().(type) {
		case interface{ Reveal() string }:
			out[name] = field.Reveal()
		default:
			out[name] = field
		}
		if v.Field(i).IsZero() {
			delete(out, name)
		}
	}
	return out
}
