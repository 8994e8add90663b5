// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// accepted is what the API documents: five fields, or a name such as @daily.
const accepted = cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor

// everyHour is set in the hours of a schedule that says *; the library does not export it.
const everyHour = 1 << 63

// Cron is a schedule in a time zone. Two things differ from its library where clocks are changed: what is due at an hour
// that is left out is due when the clock has been put forward, and what is due at a given hour that comes twice is due the
// first time only.
type Cron struct {
	spec *cron.SpecSchedule
	zone *time.Location
}

// Parse reads a schedule and the name of a time zone, "" for UTC. The error says what is wrong in the words of a user; it
// does not name the field.
func Parse(text, zone string) (Cron, error) {
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return Cron{}, fmt.Errorf("time zone %q is not known; use a name of the IANA database, for example Europe/Berlin", zone)
	}
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return Cron{}, fmt.Errorf("schedule %q names a time zone; it belongs into timeZone", text)
	}
	parsed, err := cron.NewParser(accepted).Parse(text)
	if err != nil {
		return Cron{}, fmt.Errorf("schedule %q is not five fields of cron, @hourly, @daily or @weekly: %w", text, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Cron{}, fmt.Errorf("schedule %q has no given times; use five fields of cron", text)
	}
	return Cron{spec: spec, zone: location}, nil
}

// Next is the first time after t at which something is due; zero when there is none within five years.
func (c Cron) Next(t time.Time) time.Time {
	t = t.In(c.zone)
	next := c.spec.Next(t)
	if c.spec.Hour&everyHour != 0 {
		return next // every hour that there is
	}
	for !next.IsZero() && repeated(next) {
		next = c.spec.Next(next)
	}
	if skipped := c.leftOut(t); !skipped.IsZero() && (next.IsZero() || skipped.Before(next)) {
		return skipped
	}
	return next
}

// repeated reports whether the clock showed the same before, because it was put back.
func repeated(t time.Time) bool {
	begin, _ := t.ZoneBounds()
	if begin.IsZero() {
		return false
	}
	_, before := begin.Add(-time.Nanosecond).Zone()
	_, now := t.Zone()
	return t.Sub(begin) < time.Duration(before-now)*time.Second
}

// leftOut is when the clock was put forward over the next thing that is due by the clock on the wall; zero when it was not.
func (c Cron) leftOut(t time.Time) time.Time {
	wall := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	due := c.spec.Next(wall)
	if due.IsZero() {
		return due
	}
	shown := time.Date(due.Year(), due.Month(), due.Day(), due.Hour(), due.Minute(), due.Second(), 0, c.zone)
	if shown.Hour() == due.Hour() && shown.Minute() == due.Minute() {
		return time.Time{}
	}
	// There is no such time. What Go made of it lies on either side of the change.
	begin, end := shown.ZoneBounds()
	change := end
	if shown.Hour()*60+shown.Minute() > due.Hour()*60+due.Minute() {
		change = begin
	}
	if !change.After(t) {
		return time.Time{}
	}
	return change
}

// spans are how far back is looked for what was due, step by step: so the number of steps is small for any schedule.
var spans = []time.Duration{time.Hour, 24 * time.Hour, 32 * 24 * time.Hour, 366 * 24 * time.Hour, 10 * 366 * 24 * time.Hour}

// Due is the newest time after last, and not after now, at which something was due; zero when there is none.
func (c Cron) Due(last, now time.Time) time.Time {
	for _, span := range spans {
		begin := now.Add(-span)
		if begin.Before(last) {
			begin = last
		}
		var newest time.Time
		for next := c.Next(begin); !next.IsZero() && !next.After(now); next = c.Next(next) {
			newest = next
		}
		if !newest.IsZero() || !begin.After(last) {
			return newest
		}
	}
	return time.Time{}
}
