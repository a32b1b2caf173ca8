package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	serverlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// logger passes the server's log on to slog: warnings and errors, without the
// stack that the server's own logger adds to each error, and nothing but the
// fatal once quiet.
type logger struct {
	slog  *slog.Logger
	tags  []tag.Tag
	quiet *atomic.Bool // shared by a logger and all that With made of it
}

var _ serverlog.WithLogger = (*logger)(nil)

func newLogger(l *slog.Logger) *logger {
	if l == nil {
		l = slog.Default()
	}
	return &logger{slog: l.With("component", "temporal"), quiet: new(atomic.Bool)}
}

// With implements serverlog.WithLogger.
func (l *logger) With(tags ...tag.Tag) serverlog.Logger {
	return &logger{slog: l.slog, tags: slices.Concat(l.tags, tags), quiet: l.quiet}
}

func (l *logger) log(level slog.Level, msg string, tags []tag.Tag) {
	if !l.slog.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, len(l.tags)+len(tags))
	for _, t := range slices.Concat(l.tags, tags) {
		attrs = append(attrs, slog.Any(t.Key(), t.Value()))
	}
	l.slog.LogAttrs(context.Background(), level, msg, attrs...)
}

func (l *logger) Debug(string, ...tag.Tag) {}
func (l *logger) Info(string, ...tag.Tag)  {}

func (l *logger) Warn(msg string, tags ...tag.Tag) {
	// The HTTP API is left out on purpose: unlike gRPC, any web page could call it.
	if !l.quiet.Load() && !strings.HasPrefix(msg, "HTTP API port has not been set") {
		l.log(slog.LevelWarn, msg, tags)
	}
}

func (l *logger) Error(msg string, tags ...tag.Tag) {
	if !l.quiet.Load() {
		l.log(slog.LevelError, msg, tags)
	}
}

func (l *logger) DPanic(msg string, tags ...tag.Tag) { l.Error(msg, tags...) }

func (l *logger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic(fmt.Sprintf("Temporal server: %s", msg))
}

// Fatal ends the process, as the server relies on.
func (l *logger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	os.Exit(1)
}
