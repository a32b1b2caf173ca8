package store

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/secrets"
)

// notifying is a world with both channels, whose clock moves.
func notifying(t testing.TB) (w world, now *time.Time) {
	t.Helper()
	w = newWorld(t)
	_, c, err := w.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.People = append(c.People, config.Person{Email: "di@example.com", Disabled: true})
	c.Notify = config.Notify{
		Webhook: &config.Webhook{URL: "https://hooks.example.com", Secret: secrets.Ref{Store: "env", Key: "HOOK"}},
		Email:   &config.Email{Hostname: "smtp.example.com", Port: 587, From: "lapse@example.com", TLS: "starttls"},
	}
	save(t, w.Store, c)
	at := noon
	w.Now = func() time.Time { return at }
	return w, &at
}

func (w world) tell(t testing.TB, notices ...access.Notice) {
	t.Helper()
	if err := w.Tell(t.Context(), notices); err != nil {
		t.Fatal(err)
	}
}

func (w world) notices(t testing.TB, f NoticeFilter) (keys []string) {
	t.Helper()
	rows, err := w.Notices(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range rows {
		keys = append(keys, n.Key)
	}
	return keys
}

func (w world) claim(t testing.TB, channel string, limit int) (list []Delivery) {
	t.Helper()
	list, err := w.ClaimDeliveries(t.Context(), channel, limit, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTell(t *testing.T) {
	w, _ := notifying(t)
	di, err := w.PersonByEmail(t.Context(), "di@example.com")
	if err != nil {
		t.Fatal(err)
	}
	first := access.Notice{Key: "remind/req-1/1", PersonID: w.ana.ID, Kind: access.NoticeReminder, RequestID: "req-1", Text: "Bo waits:\r\n\tBcc: eve@example.com\x1b[2J \u202etxt", At: noon.Add(-time.Hour)}
	w.tell(t, first, first)
	w.tell(t, access.Notice{Key: first.Key, PersonID: w.ana.ID, Kind: access.NoticeFailed, Text: "another text under the same key"})
	w.tell(t,
		access.Notice{Key: first.Key, PersonID: w.bo.ID, Kind: access.NoticeReminder, Text: "the same, to somebody else"},
		access.Notice{Key: "a", PersonID: di.ID, Kind: access.NoticeGranted, Text: "to somebody who is disabled"},
		access.Notice{Key: "a", PersonID: "per-nobody", Kind: access.NoticeGranted, Text: "to nobody"},
		access.Notice{Key: "b", PersonID: w.ana.ID, Kind: access.NoticeGranted, Text: strings.Repeat("ü", 3000)},
	)
	w.tell(t)

	rows, err := w.Notices(t.Context(), NoticeFilter{Person: w.ana.ID})
	if err != nil {
		t.Fatal(err)
	}
	first.Text = "Bo waits: Bcc: eve@example.com\ufffd[2J \ufffdtxt"
	want := []NoticeRow{
		{Notice: access.Notice{Key: "b", PersonID: w.ana.ID, Kind: access.NoticeGranted, Text: strings.Repeat("ü", 1999) + "…", At: noon}},
		{Notice: first},
	}
	if diff := cmp.Diff(want, rows, cmpopts.IgnoreFields(NoticeRow{}, "ID")); diff != "" {
		t.Error(diff)
	}
	if got := w.notices(t, NoticeFilter{Person: w.bo.ID}); len(got) != 1 {
		t.Errorf("bo was told %q", got)
	}
	if got := w.notices(t, NoticeFilter{Person: di.ID}); len(got) != 0 {
		t.Errorf("di, who is disabled, was told %q", got)
	}
	for _, channel := range []string{config.ChannelWebhook, config.ChannelEmail} {
		var to []string
		for _, d := range w.claim(t, channel, 10) {
			to = append(to, d.Person.Email+" "+d.Key)
			if d.Attempt != 1 || !d.Since.Equal(noon) || d.ID == "" || d.Channel != channel {
				t.Errorf("%+v", d)
			}
		}
		if want := []string{"ana@example.com " + first.Key, "bo@example.com " + first.Key, "ana@example.com b"}; !slices.Equal(to, want) {
			t.Errorf("by %s: %q, want %q", channel, to, want)
		}
	}
	for _, wrong := range []access.Notice{{PersonID: w.ana.ID, Kind: access.NoticeGranted}, {Key: "k", PersonID: w.ana.ID, Kind: "rumour"}} {
		if err := w.Tell(t.Context(), []access.Notice{{Key: "with it", PersonID: w.ana.ID, Kind: access.NoticeGranted}, wrong}); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
	if slices.Contains(w.notices(t, NoticeFilter{Person: w.ana.ID}), "with it") {
		t.Error("a half was stored")
	}
}

// What was told before a channel was configured is not sent over it.
func TestTellWithoutChannels(t *testing.T) {
	w := newWorld(t)
	w.tell(t, access.Notice{Key: "a", PersonID: w.ana.ID, Kind: access.NoticeGranted})
	bare := newStore(t)
	if err := bare.Tell(t.Context(), []access.Notice{{Key: "a", PersonID: w.ana.ID, Kind: access.NoticeGranted}}); err != nil {
		t.Errorf("before the first configuration: %v", err)
	}
	_, c, err := w.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Notify.Webhook = &config.Webhook{URL: "https://hooks.example.com"}
	save(t, w.Store, c)
	w.tell(t, access.Notice{Key: "b", PersonID: w.ana.ID, Kind: access.NoticeGranted})
	if got := w.claim(t, config.ChannelWebhook, 10); len(got) != 1 || got[0].Key != "b" {
		t.Errorf("deliveries: %+v", got)
	}
	if got := w.claim(t, config.ChannelEmail, 10); len(got) != 0 {
		t.Errorf("mail: %+v", got)
	}
	if got := w.notices(t, NoticeFilter{Person: w.ana.ID}); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("notices: %q", got)
	}
}

func TestNoticesAreSeen(t *testing.T) {
	w, _ := notifying(t)
	ctx := t.Context()
	for _, key := range []string{"a", "b", "c", "d"} {
		// When it came to be so says nothing about the order in which it is shown.
		w.tell(t, access.Notice{Key: key, PersonID: w.ana.ID, Kind: access.NoticeDecided, At: noon.Add(-time.Duration(key[0]) * time.Minute)})
	}
	w.tell(t, access.Notice{Key: "a", PersonID: w.bo.ID, Kind: access.NoticeDecided})
	page, err := w.Notices(ctx, NoticeFilter{Person: w.ana.ID, Limit: 3})
	if err != nil || len(page) != 3 {
		t.Fatalf("%+v, %v", page, err)
	}
	if got := w.notices(t, NoticeFilter{Person: w.ana.ID, Limit: 3, After: page[2].ID}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("second page: %q", got)
	}
	if _, err := w.SeenNotices(ctx, w.bo.ID, page[0].ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("somebody else's: %v", err)
	}
	if n, err := w.SeenNotices(ctx, w.ana.ID, page[1].ID); n != 3 || err != nil {
		t.Errorf("seen %d, %v", n, err)
	}
	if n, err := w.SeenNotices(ctx, w.ana.ID, page[2].ID); n != 0 || err != nil {
		t.Errorf("seen again %d, %v", n, err)
	}
	if got := w.notices(t, NoticeFilter{Person: w.ana.ID, Unseen: true}); !slices.Equal(got, []string{"d"}) {
		t.Errorf("unseen: %q", got)
	}
	if got := w.notices(t, NoticeFilter{Person: w.bo.ID, Unseen: true}); len(got) != 1 {
		t.Errorf("bo's: %q", got)
	}
	if n, err := w.UnseenNotices(ctx, w.ana.ID, 100); n != 1 || err != nil {
		t.Errorf("unseen: %d, %v", n, err)
	}
	w.tell(t, access.Notice{Key: "e", PersonID: w.ana.ID, Kind: access.NoticeDecided}, access.Notice{Key: "f", PersonID: w.ana.ID, Kind: access.NoticeDecided})
	if n, err := w.UnseenNotices(ctx, w.ana.ID, 2); n != 2 || err != nil {
		t.Errorf("of three unseen, two at most: %d, %v", n, err)
	}
}

func TestPruneNotices(t *testing.T) {
	w, now := notifying(t)
	w.tell(t, access.Notice{Key: "old and seen", PersonID: w.ana.ID, Kind: access.NoticeDecided})
	seen, err := w.Notices(t.Context(), NoticeFilter{Person: w.ana.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SeenNotices(t.Context(), w.ana.ID, seen[0].ID); err != nil {
		t.Fatal(err)
	}
	w.tell(t, access.Notice{Key: "old", PersonID: w.ana.ID, Kind: access.NoticeDecided})
	for _, tc := range []struct {
		days int
		left []string
	}{{89, []string{"old", "old and seen"}}, {91, []string{"old"}}, {364, []string{"old"}}, {366, nil}} {
		*now = noon.Add(time.Duration(tc.days) * 24 * time.Hour)
		if err := w.PruneNotices(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.notices(t, NoticeFilter{Person: w.ana.ID}); !slices.Equal(got, tc.left) {
			t.Errorf("after %d days: %q, want %q", tc.days, got, tc.left)
		}
	}
	if got := w.claim(t, config.ChannelEmail, 10); len(got) != 0 {
		t.Errorf("deliveries are left: %+v", got)
	}
}

func TestDeliveries(t *testing.T) {
	w, now := notifying(t)
	ctx := t.Context()
	w.tell(t, access.Notice{Key: "a", PersonID: w.ana.ID, Kind: access.NoticeBreakGlass, RequestID: "req-1"}, access.Notice{Key: "b", PersonID: w.ana.ID, Kind: access.NoticeReview})
	const by = config.ChannelEmail
	one := w.claim(t, by, 1)
	if len(one) != 1 || one[0].Key != "a" {
		t.Fatalf("%+v", one)
	}
	if rest := w.claim(t, by, 10); len(rest) != 1 || rest[0].Key != "b" {
		t.Errorf("beside it: %+v", rest)
	} else if err := w.Delivered(ctx, rest[0]); err != nil {
		t.Error(err)
	}
	if got := w.claim(t, by, 10); len(got) != 0 {
		t.Errorf("what is claimed was claimed again: %+v", got)
	}

	// Whoever claimed it did not come back.
	*now = now.Add(time.Minute)
	two := w.claim(t, by, 10)
	if len(two) != 1 || two[0].Attempt != 2 || two[0].ID != one[0].ID {
		t.Fatalf("after the lease: %+v", two)
	}
	if err := w.DeliveryFailed(ctx, one[0], "late", time.Time{}); err != nil {
		t.Error(err)
	}
	if err := w.DeliveryFailed(ctx, two[0], "it does not answer", now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if got := w.claim(t, by, 10); len(got) != 0 {
		t.Errorf("before its time: %+v", got)
	}
	*now = now.Add(time.Hour)
	three := w.claim(t, by, 10)
	if len(three) != 1 || three[0].Attempt != 3 || !three[0].Since.Equal(noon) {
		t.Fatalf("at its time: %+v", three)
	}
	for range 2 {
		if err := w.DeliveryFailed(ctx, three[0], "it does not answer", time.Time{}); err != nil {
			t.Error(err)
		}
	}
	*now = now.Add(48 * time.Hour)
	if got := w.claim(t, by, 10); len(got) != 0 {
		t.Errorf("what was given up, or sent: %+v", got)
	}
	events, err := w.Events(ctx, EventFilter{RequestID: "req-1"})
	if err != nil || len(events) != 1 {
		t.Fatalf("%+v, %v", events, err)
	}
	if e := events[0]; e.Kind != "notice.failed" || e.Text != "ana@example.com was not told by email (break_glass): it does not answer" {
		t.Errorf("%+v", e)
	}
}

// Several processes on one file share the deliveries out.
func TestDeliveriesAreClaimedOnce(t *testing.T) {
	w, _ := notifying(t)
	const all = 40
	var notices []access.Notice
	for i := range all {
		notices = append(notices, access.Notice{Key: string(rune('A' + i)), PersonID: w.ana.ID, Kind: access.NoticeGranted})
	}
	w.tell(t, notices...)
	var path string
	if err := w.readers.QueryRowContext(t.Context(), `select file from pragma_database_list where name = 'main'`).Scan(&path); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	claimed := map[string]int{}
	var loops sync.WaitGroup
	for range 3 {
		s := open1(t, path)
		loops.Go(func() {
			for {
				list, err := s.ClaimDeliveries(t.Context(), config.ChannelWebhook, 3, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if len(list) == 0 {
					return
				}
				mu.Lock()
				for _, d := range list {
					claimed[d.Key]++
				}
				mu.Unlock()
			}
		})
	}
	loops.Wait()
	for key, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", key, n)
		}
	}
	if len(claimed) != all {
		t.Errorf("%d of %d were claimed", len(claimed), all)
	}
}
