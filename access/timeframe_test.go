package access

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimeframe(t *testing.T) {
	work := []string{"mon", "tue", "wed", "thu", "fri"}
	week := append([]string{"sun", "sat"}, work...)
	for _, c := range []struct {
		name   string
		t      Timeframe
		at     string // RFC 3339
		open   bool
		closes string // RFC 3339; empty for never
	}{
		{"nothing left out", Timeframe{}, "2026-05-04T12:00:00Z", true, ""},
		{"the same hour twice is the whole day", Timeframe{Hours: "08:00-08:00"}, "2026-05-04T03:00:00Z", true, ""},
		{"all days", Timeframe{Days: week}, "2026-05-04T12:00:00Z", true, ""},
		{"all days where the clocks change", Timeframe{Days: week, TimeZone: "Europe/Madrid"}, "2026-10-25T00:30:00Z", true, ""},
		{"hours of every day", Timeframe{Hours: "08:00-18:00"}, "2026-05-04T12:00:00Z", true, "2026-05-04T18:00:00Z"},
		{"the first moment is in it", Timeframe{Hours: "08:00-18:00"}, "2026-05-04T08:00:00Z", true, "2026-05-04T18:00:00Z"},
		{"the last is not", Timeframe{Hours: "08:00-18:00"}, "2026-05-04T18:00:00Z", false, ""},
		{"in its own zone", Timeframe{Hours: "08:00-18:00", TimeZone: "Europe/Madrid"}, "2026-05-04T06:30:00Z", true, "2026-05-04T16:00:00Z"},
		{"in its own zone it is over", Timeframe{Hours: "08:00-18:00", TimeZone: "Europe/Madrid"}, "2026-05-04T16:30:00Z", false, ""},
		{"not on this day", Timeframe{Days: []string{"tue"}}, "2026-05-04T12:00:00Z", false, ""},
		{"the day of its zone counts", Timeframe{Days: []string{"tue"}, TimeZone: "Europe/Madrid"}, "2026-05-04T22:30:00Z", true, "2026-05-05T22:00:00Z"},
		{"full days that follow each other", Timeframe{Days: work}, "2026-05-04T12:00:00Z", true, "2026-05-09T00:00:00Z"},
		{"over the end of a week", Timeframe{Days: []string{"sat", "sun", "mon"}}, "2026-05-09T12:00:00Z", true, "2026-05-12T00:00:00Z"},
		{"six days have an end", Timeframe{Days: week[1:]}, "2026-05-04T00:00:00Z", true, "2026-05-10T00:00:00Z"},
		{"over midnight, before it", Timeframe{Days: []string{"fri"}, Hours: "22:00-06:00"}, "2026-05-08T23:00:00Z", true, "2026-05-09T06:00:00Z"},
		{"over midnight, after it", Timeframe{Days: []string{"fri"}, Hours: "22:00-06:00"}, "2026-05-09T05:59:59Z", true, "2026-05-09T06:00:00Z"},
		{"it begins on its days only", Timeframe{Days: []string{"fri"}, Hours: "22:00-06:00"}, "2026-05-08T05:00:00Z", false, ""},
		{"a gap of a minute is one", Timeframe{Hours: "00:00-23:59"}, "2026-05-04T12:00:00Z", true, "2026-05-04T23:59:00Z"},
		{"a gap of a minute over midnight is one", Timeframe{Hours: "08:00-07:59"}, "2026-05-04T12:00:00Z", true, "2026-05-05T07:59:00Z"},
		{"a zone that is none", Timeframe{Hours: "00:00-23:00", TimeZone: "Nowhere/Land"}, "2026-05-04T12:00:00Z", false, ""},
		{"days that are none", Timeframe{Days: []string{"someday"}}, "2026-05-04T12:00:00Z", false, ""},
		{"hours that are none", Timeframe{Hours: "8-18"}, "2026-05-04T12:00:00Z", false, ""},

		// 29 March 2026: 02:00 CET becomes 03:00 CEST, at 01:00 UTC.
		{"a day of 23 hours", Timeframe{Days: []string{"sun"}, TimeZone: "Europe/Madrid"}, "2026-03-28T23:00:00Z", true, "2026-03-29T22:00:00Z"},
		{"it ends by the new time", Timeframe{Hours: "00:30-08:00", TimeZone: "Europe/Madrid"}, "2026-03-29T00:00:00Z", true, "2026-03-29T06:00:00Z"},
		{"an hour that does not come", Timeframe{Hours: "02:00-03:00", TimeZone: "Europe/Madrid"}, "2026-03-29T01:00:00Z", false, ""},
		{"it begins in the hour that does not come", Timeframe{Hours: "02:30-04:00", TimeZone: "Europe/Madrid"}, "2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"},
		{"and not before it", Timeframe{Hours: "02:30-04:00", TimeZone: "Europe/Madrid"}, "2026-03-29T00:59:59Z", false, ""},
		{"it ends in the hour that does not come", Timeframe{Hours: "01:00-02:30", TimeZone: "Europe/Madrid"}, "2026-03-29T00:30:00Z", true, "2026-03-29T01:00:00Z"},
		{"over midnight and the change", Timeframe{Days: []string{"sat"}, Hours: "22:00-06:00", TimeZone: "Europe/Madrid"}, "2026-03-29T03:30:00Z", true, "2026-03-29T04:00:00Z"},
		// 25 October 2026: 03:00 CEST becomes 02:00 CET, at 01:00 UTC.
		{"a day of 25 hours", Timeframe{Days: []string{"sun"}, TimeZone: "Europe/Madrid"}, "2026-10-24T22:00:00Z", true, "2026-10-25T23:00:00Z"},
		{"the hour that comes twice", Timeframe{Hours: "01:00-04:00", TimeZone: "Europe/Madrid"}, "2026-10-25T01:30:00Z", true, "2026-10-25T03:00:00Z"},
		{"full days over the change", Timeframe{Days: []string{"sat", "sun"}, TimeZone: "Europe/Madrid"}, "2026-10-24T12:00:00Z", true, "2026-10-25T23:00:00Z"},

		// Santiago de Chile: 6 September 2026, a Sunday, begins at 01:00.
		{"a day without its midnight", Timeframe{Days: []string{"sun"}, TimeZone: "America/Santiago"}, "2026-09-06T12:00:00Z", true, "2026-09-07T03:00:00Z"},
		{"begins with its first moment", Timeframe{Days: []string{"sun"}, TimeZone: "America/Santiago"}, "2026-09-06T04:00:00Z", true, "2026-09-07T03:00:00Z"},
		{"and not before", Timeframe{Days: []string{"sun"}, TimeZone: "America/Santiago"}, "2026-09-06T03:30:00Z", false, ""},
		{"the day before ends there", Timeframe{Days: []string{"sat"}, TimeZone: "America/Santiago"}, "2026-09-06T03:59:59Z", true, "2026-09-06T04:00:00Z"},
		{"and is not the day after too", Timeframe{Days: []string{"sat"}, TimeZone: "America/Santiago"}, "2026-09-06T12:00:00Z", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			open, closes := c.t.Open(at)
			got := ""
			if !closes.IsZero() {
				got = closes.UTC().Format(time.RFC3339)
			}
			if open != c.open || got != c.closes {
				t.Errorf("open %v until %q, want %v until %q", open, got, c.open, c.closes)
			}
			if closes.IsZero() {
				return
			}
			if still, _ := c.t.Open(closes.Add(-time.Nanosecond)); !still {
				t.Error("it is closed before it closes")
			}
			if still, _ := c.t.Open(closes); still {
				t.Error("it is open when it closes")
			}
		})
	}
	if (Timeframe{TimeZone: "Nowhere/Land"}).Zone() == nil || (Timeframe{TimeZone: "Europe/Madrid"}).Zone() != nil || (Timeframe{}).Zone() != nil {
		t.Error("which zones there are")
	}
	for want, frame := range map[string]Timeframe{
		"always": {}, "mon, fri (UTC)": {Days: []string{"mon", "fri"}}, "every day 08:00-18:00 (Europe/Madrid)": {Hours: "08:00-18:00", TimeZone: "Europe/Madrid"},
	} {
		if got := frame.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Whatever the days, hours and zone: it is open by what a clock on the wall
// there shows, it closes after that, and stays open until it does.
func TestTimeframeByTheClockOnTheWall(t *testing.T) {
	all := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	rapid.Check(t, func(t *rapid.T) {
		hour := func(name string) string {
			return time.Date(2000, 1, 1, 0, 30*rapid.IntRange(0, 47).Draw(t, name), 0, 0, time.UTC).Format("15:04")
		}
		f := Timeframe{TimeZone: rapid.SampledFrom([]string{"", "Europe/Madrid", "America/Santiago", "Asia/Kathmandu"}).Draw(t, "zone")}
		for _, d := range all {
			if rapid.Bool().Draw(t, d) {
				f.Days = append(f.Days, d)
			}
		}
		from, to := hour("from"), hour("to")
		if rapid.Bool().Draw(t, "with hours") {
			f.Hours = from + "-" + to
		} else {
			from, to = "", ""
		}
		begin := rapid.SampledFrom([]time.Time{noon, time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC), time.Date(2026, 9, 5, 0, 0, 0, 0, time.UTC)}).Draw(t, "around")
		at := begin.Add(time.Duration(rapid.IntRange(0, 72*60).Draw(t, "minutes")) * time.Minute)
		z, _ := time.LoadLocation(f.TimeZone)
		wall := at.In(z)
		day := func(d time.Weekday) bool { return f.on(d) }
		shows, today, yesterday := wall.Format("15:04"), wall.Weekday(), (wall.Weekday()+6)%7
		want := false
		switch {
		case from == to:
			want = day(today)
		case from < to:
			want = day(today) && from <= shows && shows < to
		default:
			want = day(today) && from <= shows || day(yesterday) && shows < to
		}
		// In the hour that a clock shows twice it may be either.
		_, before := wall.Zone()
		_, after := wall.Add(time.Hour).Zone()
		_, past := wall.Add(-time.Hour).Zone()
		twice := before != after || before != past
		open, closes := f.Open(at)
		if open != want && !twice {
			t.Fatalf("%s at %s: open %v", f, wall, open)
		}
		if !open || closes.IsZero() {
			return
		}
		if !closes.After(at) {
			t.Fatalf("%s: open at %s, and closed since %s", f, wall, closes)
		}
		for x := at; x.Before(closes); x = x.Add(closes.Sub(at)/5 + time.Minute) {
			if still, until := f.Open(x); !still || !until.Equal(closes) {
				t.Fatalf("%s: open at %s until %s, and at %s %v until %s", f, wall, closes, x.In(z), still, until)
			}
		}
		if still, _ := f.Open(closes); still {
			t.Fatalf("%s: open at %s, when it closes", f, closes)
		}
	})
}
