// Package notify sends what people are told over the channels that the
// configuration names: mail, and a signed webhook.
//
// The store is the outbox. What somebody is told is written there, together with
// the deliveries that it needs, and a Sender of each control process takes them
// from it. So a message that fails changes nothing about access, and waits for
// nobody. Each is sent at least once: a process that is killed between sending it
// and noting so leaves it to be sent again, under the same id.
//
// Why something was not sent is said in words of this package only. What a server
// answered is never repeated, because it may repeat what it was sent.
package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/secrets"
	"github.com/lapse-access/lapse/internal/store"
)

const (
	pause    = 2 * time.Second // between two looks at the outbox
	inFlight = 8               // at once, on each channel
	lease    = time.Minute     // how long an attempt belongs to the process that makes it
	// An attempt that failed is made again after firstRetry, then after twice as
	// long each time, up to maxRetry, and after giveUp not any more.
	firstRetry = 5 * time.Second
	maxRetry   = time.Hour
	giveUp     = 24 * time.Hour
	pruneEvery = time.Hour
)

// timeout bounds one attempt. It is well within a lease.
var timeout = 20 * time.Second

// Sender sends what is in the outbox. Several may work on one store.
type Sender struct {
	Store *store.Store
	// Secrets fetches the signing key of the webhook and the password of the mail
	// server.
	Secrets *secrets.Resolver
	Log     *slog.Logger
}

// failure is why a delivery was not made.
type failure struct {
	text  string
	final bool          // another attempt would not help
	after time.Duration // the next attempt is not made before
}

func failed(format string, args ...any) *failure { return &failure{text: fmt.Sprintf(format, args...)} }

// channel makes one delivery.
type channel func(context.Context, *Sender, config.Config, store.Delivery) *failure

var channels = map[string]channel{config.ChannelWebhook: post, config.ChannelEmail: mail}

// Run sends until the context ends. What fails is logged and tried again.
func (s *Sender) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for name, send := range channels {
		loops.Go(func() {
			for ctx.Err() == nil {
				more, err := s.deliver(ctx, name, send)
				if err != nil && ctx.Err() == nil {
					s.Log.Error("the outbox cannot be read", "channel", name, "error", err)
				}
				if !more {
					wait(ctx, pause)
				}
			}
		})
	}
	for ctx.Err() == nil {
		if err := s.Store.PruneNotices(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("old notices were not deleted", "error", err)
		}
		wait(ctx, pruneEvery)
	}
	loops.Wait()
}

func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// deliver makes what deliveries are due on a channel, and reports whether there
// may be more.
func (s *Sender) deliver(ctx context.Context, name string, send channel) (more bool, err error) {
	due, err := s.Store.ClaimDeliveries(ctx, name, inFlight, lease)
	if err != nil || len(due) == 0 {
		return false, err
	}
	_, cfg, err := s.Store.Config(ctx)
	if err != nil {
		return false, err
	}
	var sending sync.WaitGroup
	for _, d := range due {
		sending.Go(func() { s.attempt(ctx, cfg, d, send) })
	}
	sending.Wait()
	return len(due) == inFlight, nil
}

// attempt makes one delivery and notes what became of it.
func (s *Sender) attempt(ctx context.Context, cfg config.Config, d store.Delivery, send channel) {
	why := s.guarded(ctx, cfg, d, send)
	var err error
	switch now := s.Store.Now(); {
	case why == nil:
		err = s.Store.Delivered(context.WithoutCancel(ctx), d)
	case ctx.Err() != nil:
		return // it is due again when the lease is over
	default:
		again := now.Add(max(backoff(d.Attempt), min(why.after, maxRetry)))
		if why.final || now.Sub(d.Since) >= giveUp {
			again = time.Time{}
		}
		s.Log.Warn("a notice was not sent", "notice", d.ID, "channel", d.Channel, "attempt", d.Attempt, "given_up", again.IsZero(), "error", why.text)
		err = s.Store.DeliveryFailed(ctx, d, why.text, again)
	}
	if err != nil {
		s.Log.Error("what became of a notice was not noted", "notice", d.ID, "channel", d.Channel, "error", err)
	}
}

// guarded is one delivery that takes no longer than it may, and whose panic is no
// end of the process.
func (s *Sender) guarded(ctx context.Context, cfg config.Config, d store.Delivery, send channel) (why *failure) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("sending a notice panicked", "notice", d.ID, "channel", d.Channel, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			why = failed("internal error")
		}
	}()
	if d.Person.Disabled {
		return &failure{text: "the person is disabled", final: true}
	}
	return send(ctx, s, cfg, d)
}

// backoff is the pause after an attempt, and up to a quarter more, so that what
// failed together does not come back together.
func backoff(attempt int) time.Duration {
	d := maxRetry
	if shift := attempt - 1; shift < 10 {
		d = min(d, firstRetry<<shift)
	}
	return d + rand.N(d/4)
}

// link leads to what a notice is about; empty where nobody said where the portal
// is.
func link(cfg config.Config, n store.NoticeRow) string {
	switch base := strings.TrimRight(cfg.PortalURL, "/"); {
	case base == "":
		return ""
	case n.RequestID == "":
		return base + "/"
	default:
		return base + "/requests/" + url.PathEscape(n.RequestID)
	}
}

// unanswered says why somebody did not answer.
func unanswered(who string, err error) *failure {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	var slow net.Error
	dns, unknown := errors.AsType[*net.DNSError](err)
	op, dial := errors.AsType[*net.OpError](err)
	switch {
	case verification:
		return failed("the certificate of %s does not hold", who)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout():
		return failed("%s did not answer in time", who)
	case unknown:
		return failed("the name of %s is not found: %s", who, dns.Name)
	case dial && op.Op == "dial":
		return failed("%s does not answer: %v", who, op.Err)
	}
	return failed("the connection to %s broke", who)
}
