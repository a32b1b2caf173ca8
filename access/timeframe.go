package access

import (
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a machine may have no time zones of its own
)

// Timeframe is a set of moments: some days of the week, some hours of them, in
// a time zone. The zero one is always.
type Timeframe struct {
	Days     []string `json:"days,omitempty" doc:"days of the week on which it begins; every day when left out" enum:"mon,tue,wed,thu,fri,sat,sun"`
	Hours    string   `json:"hours,omitempty" doc:"hours of these days as HH:MM-HH:MM, over midnight too; the whole day when left out" example:"08:00-18:00" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"`
	TimeZone string   `json:"time_zone,omitempty" doc:"time zone, by its name in the IANA database; UTC when left out" example:"Europe/Madrid"`
}

// zones keeps the time zones that were read.
var zones sync.Map

func zone(name string) (*time.Location, error) {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location), nil
	}
	z, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, z)
	}
	return z, err
}

// Zone says whether the time zone exists.
func (t Timeframe) Zone() error {
	_, err := zone(t.TimeZone)
	return err
}

// always is true for a timeframe that leaves nothing out.
func (t Timeframe) always() bool {
	from, to, _ := strings.Cut(t.Hours, "-")
	return len(t.Days) == 0 && from == to
}

// on reports whether a day of the week is one of the days.
func (t Timeframe) on(day time.Weekday) bool {
	if len(t.Days) == 0 {
		return true
	}
	short := strings.ToLower(day.String()[:3])
	for _, d := range t.Days {
		if d == short {
			return true
		}
	}
	return false
}

// Open reports whether a moment is in the timeframe, and when the part of it
// that it is in closes; zero for one that never does.
func (t Timeframe) Open(at time.Time) (open bool, closes time.Time) {
	if t.always() {
		return true, time.Time{}
	}
	z, err := zone(t.TimeZone)
	if err != nil {
		return false, time.Time{} // applying it finds that
	}
	at = at.In(z)
	for day := -1; day <= 8; day++ {
		switch begins, ends := t.part(at, day); {
		case begins.IsZero():
		case !open:
			if !at.Before(begins) && at.Before(ends) {
				open, closes = true, ends
			}
		case !begins.After(closes) && ends.After(closes):
			closes = ends // it goes on where the one before ends
		}
	}
	if open && closes.Sub(at) > 7*24*time.Hour {
		closes = time.Time{} // they follow each other without a gap
	}
	return open, closes
}

// part is the part of the timeframe that begins on the day of a moment, or so
// many days later; zero where none does.
func (t Timeframe) part(at time.Time, later int) (begins, ends time.Time) {
	y, m, d := at.Date()
	if !t.on(time.Date(y, m, d+later, 0, 0, 0, 0, time.UTC).Weekday()) {
		return time.Time{}, time.Time{}
	}
	from, to, hours := strings.Cut(t.Hours, "-")
	if !hours || from == to {
		return clock(at, later, "00:00"), clock(at, later+1, "00:00")
	}
	if from < to {
		return clock(at, later, from), clock(at, later, to)
	}
	return clock(at, later, from), clock(at, later+1, to)
}

// clock is when a clock shows an hour on the day of a moment, or so many days
// later. An hour that a change of the clocks leaves out is when they change.
func clock(at time.Time, later int, hhmm string) time.Time {
	c, err := time.Parse("15:04", hhmm)
	if err != nil {
		return time.Time{} // applying it finds that
	}
	y, m, d := at.Date()
	shows := time.Date(y, m, d+later, c.Hour(), c.Minute(), 0, 0, at.Location())
	if shows.Hour() == c.Hour() && shows.Minute() == c.Minute() {
		return shows
	}
	// It is one of two: by what the clocks showed before, or by what after.
	begins, ends := shows.ZoneBounds()
	if shows.Sub(begins) < 24*time.Hour {
		return begins
	}
	return ends
}

// String is the timeframe in words.
func (t Timeframe) String() string {
	if t.always() {
		return "always"
	}
	days, hours, in := "every day", "", t.TimeZone
	if len(t.Days) > 0 {
		days = strings.Join(t.Days, ", ")
	}
	if t.Hours != "" {
		hours = " " + t.Hours
	}
	if in == "" {
		in = "UTC"
	}
	return days + hours + " (" + in + ")"
}

// local writes a moment in the timeframe's own time zone.
func (t Timeframe) local(at time.Time) string {
	z, err := zone(t.TimeZone)
	if err != nil {
		z = time.UTC
	}
	return strings.ToLower(at.In(z).Format("Mon")) + at.In(z).Format(" 2006-01-02 15:04")
}
