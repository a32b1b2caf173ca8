// Package secrets fetches the secrets of integrations where they are kept, at
// the moment they are used, so that a changed one is seen at once. Only a
// connector calls it. Errors name the store, the key and the field, and never
// a value.
package secrets

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapse-access/lapse/internal/spec"
)

// Ref says where a secret is kept. What is found there is a JSON object with
// the fields that the integration's kind declares.
type Ref struct {
	Store string `json:"store" doc:"where the secret is kept: in an environment variable of the process that uses it, or in a file beside it" enum:"env,file" example:"env"`
	Key   string `json:"key" doc:"name of the environment variable, or path of the file" example:"PROD_PG_ADMIN"`
}

// String names the secret in messages.
func (r Ref) String() string { return r.Store + " " + r.Key }

// Resolver fetches secrets.
type Resolver struct {
	dir string
}

// New makes a resolver. Relative paths of files start at dir.
func New(dir string) *Resolver { return &Resolver{dir: dir} }

// Resolve fetches a secret and decodes it strictly into the struct that into
// points to.
func (r *Resolver) Resolve(ctx context.Context, ref Ref, into any) error {
	v, err := r.value(ctx, ref)
	if err != nil {
		return err
	}
	return v.Decode(into)
}

// Value is what a secret holds.
type Value struct {
	ref  Ref
	text []byte
}

// Decode decodes it strictly into the struct that into points to.
func (v Value) Decode(into any) error {
	if faults := spec.DecodeJSON(v.text, "", into); len(faults) > 0 {
		return fmt.Errorf("secret %s: %w", v.ref, faults)
	}
	return nil
}

// Digest tells values apart.
func (v Value) Digest() [sha256.Size]byte { return sha256.Sum256(v.text) }

func (r *Resolver) value(ctx context.Context, ref Ref) (v Value, err error) {
	if err = ctx.Err(); err == nil {
		v.text, err = r.fetch(ref)
	}
	if err != nil {
		return v, fmt.Errorf("secret %s: %w", ref, err)
	}
	v.ref = ref
	return v, nil
}

func (r *Resolver) fetch(ref Ref) ([]byte, error) {
	switch ref.Store {
	case "env":
		value := os.Getenv(ref.Key)
		if value == "" {
			return nil, errors.New("the environment variable is not set or empty (set it for the process that uses it, the connector or for notify the worker, and start that again)")
		}
		return []byte(value), nil
	case "file":
		return readPrivate(r.path(ref))
	}
	return nil, errors.New("there is no such store (known are env and file)")
}

// path is that of a secret's file.
func (r *Resolver) path(ref Ref) string {
	if filepath.IsAbs(ref.Key) {
		return ref.Key
	}
	return filepath.Join(r.dir, ref.Key)
}

// maxSize is far more than any admin secret needs.
const maxSize = 1 << 20

// readPrivate reads a file that only its owner, and at most a group that reads
// it, can open. Mounted secrets of containers may be readable for all: nobody
// else lives there.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 && !mounted(path) {
		return nil, fmt.Errorf("others may open the file, its mode is %04o (chmod 600 %s)", mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("the file is larger than %d bytes", maxSize)
	}
	return data, err
}

// mounted reports whether a file is a secret that Docker (/run/secrets) or
// Kubernetes (a link through "..data", which its volumes are made of) mounts.
//
// https://kubernetes.io/docs/concepts/configuration/secret/
// https://docs.docker.com/engine/swarm/secrets/
func mounted(path string) bool {
	link, err := os.Readlink(path)
	return err == nil && strings.HasPrefix(link, "..data/") || strings.HasPrefix(filepath.Clean(path), "/run/secrets/")
}
