package postgresql

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lapse-access/lapse/access"
)

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		code, message string
		want          access.ErrorKind
	}{
		{code: "08006", want: access.Retry},
		{code: "53300", want: access.Retry},
		{code: "57P01", want: access.Retry},
		{code: "57P02", want: access.Retry},
		{code: "57P03", want: access.Retry},
		{code: "57P04", want: access.Retry},
		{code: "57P05", want: access.Retry},
		{code: "57014", want: access.Retry},
		{code: "25006", want: access.Retry},
		{code: "25P03", want: access.Retry},
		{code: "58030", want: access.Retry},
		{code: "40001", want: access.Conflict},
		{code: "40P01", want: access.Conflict},
		{code: "55P03", want: access.Conflict},
		{code: "55006", want: access.Conflict},
		{code: "XX000", message: "tuple concurrently updated", want: access.Conflict},
		{code: "XX000", message: "tuple concurrently deleted", want: access.Conflict},
		{code: "XX000", message: "could not find tuple for role 1", want: access.Conflict},
		{code: "XX000", message: "something else", want: access.Unknown},
		{code: "23505", want: access.Conflict},
		{code: "42710", want: access.Conflict},
		{code: "2BP01", want: access.Conflict},
		{code: "28P01", want: access.Auth},
		{code: "28000", want: access.Auth},
		{code: "42501", want: access.Privilege},
		{code: "01007", want: access.Privilege},
		{code: "01006", want: access.Privilege},
		{code: "42704", want: access.ResourceMissing},
		{code: "42P01", want: access.ResourceMissing},
		{code: "3F000", want: access.ResourceMissing},
		{code: "3D000", want: access.ResourceMissing},
		{code: "42883", want: access.ResourceMissing},
		{code: "42601", want: access.Invalid},
		{code: "42622", want: access.Invalid},
		{code: "42939", want: access.Invalid},
		{code: "22023", want: access.Invalid},
		{code: "0LP01", want: access.Invalid},
		{code: "0A000", want: access.Unsupported},
		{code: "P0001", want: access.Unknown},
		{code: "", want: access.Unknown},
	} {
		t.Run(test.code+test.message, func(t *testing.T) {
			const secret = "the statement and its secret"
			err := classify(&pgconn.PgError{Code: test.code, Message: test.message + secret, Detail: secret, Hint: secret, Where: secret})
			if got := access.KindOf(err); got != test.want {
				t.Errorf("kind %s, want %s", got, test.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
					t.Errorf("the driver's text comes out: %v", err)
				}
			}
		})
	}
}

func TestClassifyOther(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want access.ErrorKind
	}{
		{"nothing", nil, ""},
		{"our own", access.Errorf(access.NameTaken, "taken"), access.NameTaken},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), access.Retry},
		{"late", fmt.Errorf("x: %w", context.DeadlineExceeded), access.Retry},
		{"refused", &net.OpError{Op: "dial", Err: errors.New("connection refused")}, access.Retry},
		{"no such name", &net.DNSError{Name: "db.example.com"}, access.Retry},
		{"broken", errors.New("unexpected EOF"), access.Retry},
		{"unknown authority", fmt.Errorf("x: %w", x509.UnknownAuthorityError{}), access.Invalid},
		{"no TLS", errors.New("server refused TLS connection"), access.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := access.KindOf(classify(test.err)); got != test.want {
				t.Errorf("kind %s, want %s", got, test.want)
			}
		})
	}
}
